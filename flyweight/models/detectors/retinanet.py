"""RetinaNet: Focal Loss for Dense Object Detection (Lin et al. 2017, arxiv.org/abs/1708.02002).

The slim RetinaNet for documents is the same file with another backbone, one-by-one towers and
GroupNorm; FSAF (https://arxiv.org/abs/1903.00621) adds an anchor-free branch that chooses the level
of an object by its loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.anchor_free import AnchorFreeObjective
from flyweight.models.detectors.config import from_dict, to_dict
from flyweight.models.detectors.family import ClassRows, Family
from flyweight.models.detectors.parts import (
    imagenet_preprocessing,
    make_backbone,
    make_norm,
)
from flyweight.models.detectors.pruned import Pruned
from flyweight.models.detectors.selection import select_batch
from flyweight.models.detectors.targets import Targets
from flyweight.models.heads.retina import RetinaHead, RetinaOutputs
from flyweight.models.layers import make_divisible
from flyweight.models.losses.box_terms import BoxTerms, make_box_terms
from flyweight.models.losses.retina import retinanet_box_terms, retinanet_loss
from flyweight.models.matching.ignored_regions import ignore_in_regions
from flyweight.models.matching.levels import fpn_level
from flyweight.models.matching.two_thresholds import TwoThresholdMatcher
from flyweight.models.necks import PYRAMIDS
from flyweight.models.ops.anchors import AnchorGrid, BoxSizes, pixel_sizes, relative_sizes
from flyweight.models.ops.cells import CellGrid
from flyweight.models.ops.coder import AnchorDecoder, BoxCoder
from flyweight.models.ops.feature_grids import feature_grids

# B images, A anchors, P cells, C classes without background, G object slots

ASSIGNMENTS = ("iou", "size", "loss")


@dataclass(frozen=True)
class RetinaNetConfig:
    """All numbers of a RetinaNet.

    Attributes:
        name: the zoo's name of the preset it comes from.
        num_classes: C.
        backbone: a name of `flyweight.models.backbones`.
        size_hw: height and width of the input, pixels.
        anchor_sizes: of each level the (w, h) of its anchors, pixels.
        anchor_offset: where in its cell an anchor's centre lies: 0 the corner, as torchvision's
            weights want it, 0.5 the middle.
        integer_steps: cells are a whole number of pixels apart, as in torchvision, even where that
            leaves the last ones short of the border.
        width: multiplier of the channels of backbone, neck and towers.
        backbone_options: of the family of backbones.
        levels: of the backbone, that the neck reads.
        neck: a name of PYRAMIDS.
        neck_channels: of every level, at width 1.
        neck_separable: depthwise separable 3×3 convolutions in the neck.
        coarser: what the first level beyond the backbone's is made of: "P5", "C5" or "pool".
        tower_channels: of the layers of either tower, at width 1.
        tower_kernel: 3, or 1 in the slim RetinaNet.
        tower_separable: depthwise separable towers.
        norm: "batch", "cmbn", "group" or "none": of neck and towers.
        norm_eps: of BatchNorm.
        backbone_norm, backbone_norm_eps: of the backbone; eps None for `norm_eps`.
        positive_iou, negative_iou: an anchor is an object's from the one, background below the
            other, ignored between.
        low_quality: every object gets the anchors that overlap it best, however little.
        inside_only: anchors that leave the image take no part in the loss.
        assignment: how an object gets its level: "iou" (any level's anchors that overlap it),
            "size" (the FPN formula), "loss" (FSAF: by IoU for anchors, and by the smallest loss
            for an anchor-free branch).
        focal_alpha, focal_gamma: of the focal loss.
        label_smoothing: ε of the classes.
        box_loss: "smooth_l1" of the deltas; "iou", "giou", "diou" or "ciou" of the boxes.
        box_weight: factor of the box loss.
        smooth_l1_beta: of "smooth_l1"; 0 is L1.
        prior: of every class before training.
        folded: BatchNorm is folded into the convolutions, the modules have none.
        pruned: layers that pruning left narrower than these numbers say.
    """

    family: ClassVar[str] = "retinanet"

    name: str
    num_classes: int
    backbone: str
    size_hw: tuple[int, int]
    anchor_sizes: BoxSizes
    anchor_offset: float = 0.5
    integer_steps: bool = False
    width: float = 1.0
    backbone_options: tuple[tuple[str, Any], ...] = ()
    levels: tuple[str, ...] = ("C3", "C4", "C5")
    neck: str = "fpn"
    neck_channels: int = 256
    neck_separable: bool = False
    coarser: str = "P5"
    tower_channels: tuple[int, ...] = (256, 256, 256, 256)
    tower_kernel: int = 3
    tower_separable: bool = False
    norm: str = "none"
    norm_eps: float = 1e-5
    backbone_norm: str = "batch"
    backbone_norm_eps: float | None = None
    positive_iou: float = 0.5
    negative_iou: float = 0.4
    low_quality: bool = True
    inside_only: bool = False
    assignment: str = "iou"
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    box_loss: str = "smooth_l1"
    box_weight: float = 1.0
    smooth_l1_beta: float = 1 / 9
    prior: float = 0.01
    folded: bool = False
    pruned: Pruned = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the detector's family; `from_dict` reads it back."""
        return to_dict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> RetinaNetConfig:
        """The inverse of `to_dict`."""
        return from_dict(RetinaNetConfig, content)


class RetinaNet(nn.Module):
    """Images `[B, 3, H, W]`, normalised, to `RetinaOutputs`."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: RetinaHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def forward(self, images: Tensor) -> RetinaOutputs:
        outputs: RetinaOutputs = self.head(self.neck(self.backbone(images)))
        return outputs


class RetinaNetObjective(nn.Module):
    """Matching and the losses, over the whole batch at once."""

    def __init__(
        self,
        anchors: AnchorGrid,
        *,
        coder: BoxCoder,
        matcher: TwoThresholdMatcher,
        cells: CellGrid,
        by_size: bool = False,
        inside_only: bool = False,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        box_terms: BoxTerms = retinanet_box_terms,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.coder = coder
        self.matcher = matcher
        self.cells = cells
        self.by_size = by_size
        self.inside_only = inside_only
        self.focal = {"alpha": focal_alpha, "gamma": focal_gamma}
        self.label_smoothing = label_smoothing
        self.box_terms = box_terms
        self.box_weight = box_weight
        self.anchor_free = AnchorFreeObjective(cells, alpha=focal_alpha, gamma=focal_gamma)

    @torch.no_grad()
    def assign(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """What each anchor should say.

        Returns:
            Deltas `[B, A, 4]`, zero where no object; classes int64 `[B, A]`, -1 for background,
            -2 for ignored.
        """
        anchors = self.anchors.boxes_xyxy
        matches = self.matcher(
            targets.boxes_xyxy,
            targets.valid,
            anchors,
            anchor_valid=self.anchors.inside() if self.inside_only else None,
            level_of_box=self._level_by_size(targets) if self.by_size else None,
            level_of_anchor=self.anchors.level_of_anchor,
        )
        matches = ignore_in_regions(matches, anchors, targets.ignored_xyxy)
        if targets.labels.shape[1] == 0:
            return anchors.new_zeros(*matches.shape, 4), matches
        positive = matches >= 0
        slot = matches.clamp(min=0)
        classes = torch.where(positive, targets.labels.gather(1, slot), matches)
        boxes = targets.boxes_xyxy.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4))
        # Background anchors aim at themselves: a padded slot has no size, and log(0) would poison.
        boxes = torch.where(positive.unsqueeze(-1), boxes, anchors)
        return self.coder.encode(boxes, anchors), classes

    def _level_by_size(self, targets: Targets) -> Tensor:
        strides = self.cells.strides
        finest = strides[0].bit_length() - 1
        level = fpn_level(targets.boxes_xyxy, k_min=finest, k_max=finest + len(strides) - 1)
        return level - finest

    def forward(self, raw: RetinaOutputs, targets: Targets) -> dict[str, Tensor]:
        """`box` and `class`, scalars; with an anchor-free branch also `cell_box`, `cell_class`."""
        deltas, classes = self.assign(targets)
        losses = retinanet_loss(
            raw.deltas,
            raw.logits,
            deltas,
            classes,
            box_terms=self.box_terms,
            label_smoothing=self.label_smoothing,
            alpha=self.focal["alpha"],
            gamma=self.focal["gamma"],
        )
        losses["box"] = self.box_weight * losses["box"]
        if raw.distances is not None and raw.cell_logits is not None:
            losses |= self.anchor_free(self.cells.decode(raw.distances), raw.cell_logits, targets)
        return losses


class RetinaNetPostprocess(nn.Module):
    """Decoding, thresholds, NMS."""

    def __init__(self, anchors: AnchorGrid, *, coder: BoxCoder, cells: CellGrid) -> None:
        super().__init__()
        self.decoder = AnchorDecoder(coder, anchors.boxes_cxcywh, size_hw=anchors.size_hw)
        self.cells = cells

    def decode(self, raw: RetinaOutputs) -> tuple[Tensor, Tensor]:
        """Boxes `xyxy [B, A, 4]` in input pixels, within the input; scores `[B, A, C]`.

        The cells of an anchor-free branch follow the anchors.
        """
        boxes, scores = self.decoder(raw.deltas.float()), raw.logits.float().sigmoid()
        if raw.distances is None or raw.cell_logits is None:
            return boxes, scores
        cells = torch.minimum(
            self.cells.decode(raw.distances.float()).clamp(min=0), self.decoder.limit
        )
        return (
            torch.cat((boxes, cells), dim=1),
            torch.cat((scores, raw.cell_logits.float().sigmoid()), dim=1),
        )

    def forward(
        self, raw: RetinaOutputs, thresholds: Thresholds
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [K, 4]` (input pixels), `scores [K]`, `labels [K]`."""
        return select_batch(*self.decode(raw), thresholds)


def check_retinanet(config: RetinaNetConfig) -> None:
    """Raise an InputError where the numbers of a config contradict each other."""
    for field, value, choices in (
        ("neck", config.neck, tuple(PYRAMIDS)),
        ("assignment", config.assignment, ASSIGNMENTS),
        ("coarser", config.coarser, ("P5", "C5", "pool")),
    ):
        if value not in choices:
            raise InputError(
                f"unknown {field} {value!r}", where=field, fix=f"choose {', '.join(choices)}"
            )
    counts = {len(level) for level in config.anchor_sizes}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"RetinaNet's head is shared by all levels, which need equally many anchors, not "
            f"{[len(level) for level in config.anchor_sizes]}",
            where="anchor_sizes",
        )
    if not all(side > 0 for level in config.anchor_sizes for box in level for side in box):
        raise InputError("anchors need sides above 0", where="anchor_sizes")
    if not 0 < config.prior < 1:
        raise InputError(f"prior {config.prior} is not between 0 and 1", where="prior")


def make_retinanet(config: RetinaNetConfig) -> RetinaNet:
    """The network of a config, freshly initialised."""
    norm = make_norm(config.norm, eps=config.norm_eps, folded=config.folded)
    backbone = make_backbone(config, config.levels, eps=config.norm_eps)
    neck: Any = PYRAMIDS[config.neck](
        backbone.feature_info,
        channels=make_divisible(config.neck_channels * config.width),
        num_levels=len(config.anchor_sizes),
        norm=norm,
        separable=config.neck_separable,
        coarser=config.coarser,
    )
    head = RetinaHead(
        neck.feature_info,
        len(config.anchor_sizes[0]),
        num_classes=config.num_classes,
        channels=[make_divisible(count * config.width) for count in config.tower_channels],
        kernel_size=config.tower_kernel,
        norm=norm,
        separable=config.tower_separable,
        anchor_free=config.assignment == "loss",
        prior=config.prior,
    )
    return RetinaNet(backbone, neck, head)


def interpret_retinanet(
    config: RetinaNetConfig, network: RetinaNet
) -> tuple[RetinaNetObjective, RetinaNetPostprocess]:
    """What the raw outputs mean at the config's input size: losses and boxes."""
    neck: Any = network.neck
    grids = feature_grids(nn.Sequential(network.backbone, neck), config.size_hw)
    height, width = config.size_hw
    anchors = AnchorGrid(
        grids,
        relative_sizes(config.anchor_sizes, config.size_hw),
        size_hw=config.size_hw,
        steps=[(height // rows, width // columns) for rows, columns in grids]
        if config.integer_steps
        else None,
        offset=config.anchor_offset,
    )
    cells = CellGrid(grids, [level.stride for level in neck.feature_info])
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    objective = RetinaNetObjective(
        anchors,
        coder=coder,
        matcher=TwoThresholdMatcher(
            config.positive_iou, config.negative_iou, low_quality=config.low_quality
        ),
        cells=cells,
        by_size=config.assignment == "size",
        inside_only=config.inside_only,
        focal_alpha=config.focal_alpha,
        focal_gamma=config.focal_gamma,
        label_smoothing=config.label_smoothing,
        box_terms=make_box_terms(
            config.box_loss,
            anchors_cxcywh=anchors.boxes_cxcywh,
            coder=coder,
            beta=config.smooth_l1_beta,
        ),
        box_weight=config.box_weight,
    )
    return objective, RetinaNetPostprocess(anchors, coder=coder, cells=cells)


# Section 4.1, "Inference", with the overlap of its table; torchvision keeps 300 detections.
THRESHOLDS = Thresholds(score=0.05, iou=0.5, candidates_per_class=1000, max_detections=300)


def _published(config: RetinaNetConfig) -> tuple[Preprocessing, Thresholds]:
    return imagenet_preprocessing(config.size_hw), THRESHOLDS


def _with_anchors(config: RetinaNetConfig, sizes_wh: BoxSizes) -> RetinaNetConfig:
    return replace(config, anchor_sizes=pixel_sizes(sizes_wh, config.size_hw))


FAMILY = Family(
    config=RetinaNetConfig,
    network=make_retinanet,
    interpret=interpret_retinanet,
    check=check_retinanet,
    published=_published,
    with_anchors=_with_anchors,
    class_rows=(ClassRows(r"head\.classification\.(output|anchor_free)\.", shared=0),),
)
