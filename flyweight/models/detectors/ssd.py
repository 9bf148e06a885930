"""SSD: Single Shot MultiBox Detector (Liu et al. 2016, https://arxiv.org/abs/1512.02325).

One file for the published SSD300 over VGG-16, for MobileNet-SSD, and for SSDlite (MobileNetV2,
https://arxiv.org/abs/1801.04381, section 6.2; MobileNetV3, https://arxiv.org/abs/1905.02244,
section 6.3): they differ in the backbone, neck and head that are injected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import Backbone
from flyweight.models.detectors.config import from_dict, to_dict
from flyweight.models.detectors.family import ClassRows, Family
from flyweight.models.detectors.parts import make_backbone, make_norm
from flyweight.models.detectors.pruned import Pruned
from flyweight.models.detectors.selection import select_batch
from flyweight.models.detectors.targets import Targets
from flyweight.models.heads.initialisation import initialise_head, set_background_prior
from flyweight.models.heads.ssd import PREDICTORS, SSDHead, make_predictor
from flyweight.models.layers import L2Norm
from flyweight.models.losses.box_terms import BoxTerms, make_box_terms
from flyweight.models.losses.multibox import Mining, multibox_loss
from flyweight.models.losses.smooth_l1 import smooth_l1_terms
from flyweight.models.matching.ignored_regions import ignore_in_regions
from flyweight.models.matching.max_iou import MaxIoUMatcher
from flyweight.models.necks import PYRAMIDS, SSDExtras
from flyweight.models.necks.ssd_extras import scaled_extras
from flyweight.models.ops.anchors import AnchorGrid, BoxSizes
from flyweight.models.ops.coder import AnchorDecoder, BoxCoder
from flyweight.models.ops.feature_grids import feature_grids

# B images, A anchors, C classes without background, G object slots

SSD_EXTRAS = "ssd_extras"


@dataclass(frozen=True)
class SSDConfig:
    """All numbers of an SSD.

    Attributes:
        name: the zoo's name of the preset it comes from.
        num_classes: C, without background.
        backbone: a name of `flyweight.models.backbones`.
        size_hw: height and width of the input, pixels.
        default_boxes: of each level the (w, h) of its boxes, relative to the input (0 to 1).
        steps: pixels from cell to cell of each level; None where cells cover the input exactly.
        width: multiplier of the backbone's and the extra levels' channels.
        backbone_options: of the family of backbones.
        backbone_levels: the set of levels that the neck reads.
        neck: "ssd_extras" (the backbone's last two levels and extra ones), or a pyramid: "fpn" ...
        neck_channels: of a pyramid's levels.
        extras: channels of the extra levels at width 1.
        separable_extras: SSDlite's extra levels; else those of SSD.
        valid_extras: how many of the last ones are 3×3 convolutions without padding.
        l2_norm: the finest level is L2-normalised and scaled (Liu et al., section 3.1).
        min_depth: the fewest channels an extra level has at a small width.
        head: "separable" (SSDlite), "conv3x3" (SSD) or "conv1x1" (MobileNet-SSD).
        reduced_tail: MobileNetV3's last stage with half its channels (section 6.3); not with
            weights pretrained on ImageNet, which have the full one.
        norm: "batch", "cmbn", "group" or "none": of neck and head.
        norm_eps, norm_momentum: of BatchNorm.
        backbone_norm: of the backbone.
        backbone_norm_eps: of the backbone's BatchNorm; None for `norm_eps`. Pretrained weights
            need the one they were trained with.
        coder_weights: inverses of the variances of (cx, cy, w, h).
        match_iou: an anchor of at least this IoU with an object is positive.
        negatives_per_positive: of the hard negative mining.
        mining: whose class loss counts: all positives and the hardest "negatives", the "hardest"
            anchors of all (OHEM), or all by "focal" loss.
        focal_alpha, focal_gamma: of "focal".
        label_smoothing: ε of the classes.
        box_loss: "smooth_l1" of the deltas; "iou", "giou", "diou" or "ciou" of the boxes.
        box_weight: factor of the box loss.
        background_prior: the probability of background before training, by the bias of the
            class head; None starts from all classes alike.
        folded: BatchNorm is folded into the convolutions, the modules have none.
        pruned: layers that pruning left narrower than these numbers say.
    """

    family: ClassVar[str] = "ssd"

    name: str
    num_classes: int
    backbone: str
    size_hw: tuple[int, int]
    default_boxes: BoxSizes
    steps: tuple[float, ...] | None = None
    width: float = 1.0
    backbone_options: tuple[tuple[str, Any], ...] = ()
    backbone_levels: str = "ssdlite"
    neck: str = SSD_EXTRAS
    neck_channels: int = 128
    extras: tuple[int, ...] = (512, 256, 256, 128)
    separable_extras: bool = True
    valid_extras: int = 0
    l2_norm: bool = False
    min_depth: int = 16
    head: str = "separable"
    reduced_tail: bool = False
    norm: str = "batch"
    norm_eps: float = 0.001
    norm_momentum: float = 0.03
    backbone_norm: str = "batch"
    backbone_norm_eps: float | None = None
    coder_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    match_iou: float = 0.5
    negatives_per_positive: float = 3.0
    mining: str = "negatives"
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    box_loss: str = "smooth_l1"
    box_weight: float = 1.0
    background_prior: float | None = None
    folded: bool = False
    pruned: Pruned = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the detector's family; `from_dict` reads it back."""
        return to_dict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> SSDConfig:
        """The inverse of `to_dict`."""
        return from_dict(SSDConfig, content)

    @property
    def num_levels(self) -> int:
        """Levels that the head looks at."""
        return 2 + len(self.extras) if self.neck == SSD_EXTRAS else len(self.default_boxes)


class SSDOutputs(NamedTuple):
    """Raw outputs: `deltas [B, A, 4]` from the anchors, `logits [B, A, C + 1]`, background 0."""

    deltas: Tensor
    logits: Tensor


class SSD(nn.Module):
    """Images `[B, 3, H, W]`, normalised, to `SSDOutputs`."""

    def __init__(self, backbone: Backbone, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def features(self, images: Tensor) -> list[Tensor]:
        """The levels that the head looks at, `[B, C, H, W]` each, finest first."""
        levels: list[Tensor] = self.neck(self.backbone(images))
        return levels

    def forward(self, images: Tensor) -> SSDOutputs:
        deltas, logits = self.head(self.features(images))
        return SSDOutputs(deltas, logits)


class SSDObjective(nn.Module):
    """Matching and the MultiBox loss, over the whole batch at once."""

    def __init__(
        self,
        anchors: AnchorGrid,
        *,
        coder: BoxCoder,
        matcher: MaxIoUMatcher,
        loss: Callable[..., dict[str, Tensor]] = multibox_loss,
        box_terms: BoxTerms = smooth_l1_terms,
        box_weight: float = 1.0,
    ) -> None:
        """`loss` is `multibox_loss`, its options but for `box_terms` bound."""
        super().__init__()
        self.anchors = anchors
        self.coder = coder
        self.matcher = matcher
        self.loss = loss
        self.box_terms = box_terms
        self.box_weight = box_weight

    @torch.no_grad()
    def assign(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """What each anchor should say.

        Returns:
            Deltas `[B, A, 4]`, zero where background; classes int64 `[B, A]`, 0 for background, -1
            for ignored.
        """
        anchors = self.anchors.boxes_xyxy
        matches = self.matcher(targets.boxes_xyxy, targets.valid, anchors)
        matches = ignore_in_regions(matches, anchors, targets.ignored_xyxy)
        if targets.labels.shape[1] == 0:
            return anchors.new_zeros(*matches.shape, 4), matches + 1
        positive = matches >= 0
        slot = matches.clamp(min=0)
        classes = torch.where(positive, targets.labels.gather(1, slot), matches) + 1
        boxes = targets.boxes_xyxy.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4))
        # Background anchors aim at themselves: a padded slot has no size, and log(0) would poison.
        boxes = torch.where(positive.unsqueeze(-1), boxes, anchors)
        return self.coder.encode(boxes, anchors), classes

    def forward(self, raw: SSDOutputs, targets: Targets) -> dict[str, Tensor]:
        """`box` and `class` losses, scalars."""
        deltas, classes = self.assign(targets)
        losses = self.loss(raw.deltas, raw.logits, deltas, classes, box_terms=self.box_terms)
        return losses | {"box": self.box_weight * losses["box"]}


class SSDPostprocess(nn.Module):
    """Decoding, thresholds, NMS."""

    def __init__(self, anchors: AnchorGrid, *, coder: BoxCoder) -> None:
        super().__init__()
        self.decoder = AnchorDecoder(coder, anchors.boxes_cxcywh, size_hw=anchors.size_hw)

    def decode(self, raw: SSDOutputs) -> tuple[Tensor, Tensor]:
        """Boxes `xyxy [B, A, 4]` in input pixels, within the input; scores `[B, A, C]`."""
        return self.decoder(raw.deltas.float()), raw.logits.float().softmax(dim=-1)[..., 1:]

    def forward(
        self, raw: SSDOutputs, thresholds: Thresholds
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [K, 4]` (input pixels), `scores [K]`, `labels [K]`."""
        return select_batch(*self.decode(raw), thresholds)


def check_ssd(config: SSDConfig) -> None:
    """Raise an InputError where the numbers of a config contradict each other."""
    if config.background_prior is not None and not 0 < config.background_prior < 1:
        raise InputError(
            f"background_prior {config.background_prior} is not between 0 and 1",
            where="background_prior",
        )
    if config.mining not in get_args(Mining):
        raise InputError(
            f"unknown mining {config.mining!r}",
            where="mining",
            fix=f"choose {', '.join(get_args(Mining))}",
        )
    if config.head not in PREDICTORS:
        raise InputError(
            f"unknown head {config.head!r}", where="head", fix=f"choose {', '.join(PREDICTORS)}"
        )
    if config.neck not in (SSD_EXTRAS, *PYRAMIDS):
        raise InputError(
            f"unknown neck {config.neck!r}",
            where="neck",
            fix=f"choose {', '.join((SSD_EXTRAS, *PYRAMIDS))}",
        )
    if len(config.default_boxes) != config.num_levels:
        raise InputError(
            f"default boxes for {len(config.default_boxes)} levels, {config.name} has "
            f"{config.num_levels}",
            where="default_boxes",
        )
    for index, level in enumerate(config.default_boxes):
        if not level or not all(0 < side < 10 for box in level for side in box):
            raise InputError(
                f"level {index} needs at least one default box, of sides above 0",
                where="default_boxes",
                fix="give (width, height) relative to the input, 0 to 1",
            )


def _make_neck(config: SSDConfig, backbone: Backbone) -> nn.Module:
    norm = make_norm(
        config.norm, eps=config.norm_eps, momentum=config.norm_momentum, folded=config.folded
    )
    features = backbone.feature_info
    if config.neck != SSD_EXTRAS:
        neck: nn.Module = PYRAMIDS[config.neck](
            features, channels=config.neck_channels, num_levels=config.num_levels, norm=norm
        )
        return neck
    return SSDExtras(
        features,
        scaled_extras(config.extras, width=config.width, min_depth=config.min_depth),
        norm=norm,
        separable=config.separable_extras,
        valid_levels=config.valid_extras,
        rescale=L2Norm(features[0].channels) if config.l2_norm else None,
    )


def make_ssd(config: SSDConfig) -> SSD:
    """The network of a config, freshly initialised."""
    backbone = make_backbone(
        config,
        config.backbone_levels if config.neck == SSD_EXTRAS else ("C3", "C4", "C5"),
        eps=config.norm_eps,
        momentum=config.norm_momentum,
        **({"reduced_tail": True} if config.reduced_tail else {}),
    )
    neck: Any = _make_neck(config, backbone)
    norm = make_norm(
        config.norm, eps=config.norm_eps, momentum=config.norm_momentum, folded=config.folded
    )
    head = SSDHead(
        [level.channels for level in neck.feature_info],
        [len(level) for level in config.default_boxes],
        num_classes=config.num_classes,
        predictor=make_predictor(config.head, norm=norm),
    )
    if config.head == "separable":  # torchvision's recipe starts all of SSDlite alike
        initialise_head(backbone)
    initialise_head(neck)
    initialise_head(head)
    if config.background_prior is not None:
        set_background_prior(head.classification, config.background_prior)
    return SSD(backbone, neck, head)


def interpret_ssd(config: SSDConfig, network: SSD) -> tuple[SSDObjective, SSDPostprocess]:
    """What the raw outputs mean at the config's input size: losses and boxes."""
    anchors = AnchorGrid(
        feature_grids(nn.Sequential(network.backbone, network.neck), config.size_hw),
        config.default_boxes,
        size_hw=config.size_hw,
        steps=config.steps,
    )
    coder = BoxCoder(config.coder_weights)
    objective = SSDObjective(
        anchors,
        coder=coder,
        matcher=MaxIoUMatcher(config.match_iou),
        loss=partial(
            multibox_loss,
            negatives_per_positive=config.negatives_per_positive,
            mining=cast(Mining, config.mining),
            focal_alpha=config.focal_alpha,
            focal_gamma=config.focal_gamma,
            label_smoothing=config.label_smoothing,
        ),
        box_terms=make_box_terms(config.box_loss, anchors_cxcywh=anchors.boxes_cxcywh, coder=coder),
        box_weight=config.box_weight,
    )
    return objective, SSDPostprocess(anchors, coder=coder)


# torchvision's SSDlite, but for the score: what lies between 0.001 and 0.01 hardly moves AP and
# costs NMS most of its time.
SSDLITE_THRESHOLDS = Thresholds(score=0.01, iou=0.55, candidates_per_class=300, max_detections=300)
# Liu et al. 2016, section 3.1.
SSD_THRESHOLDS = Thresholds(score=0.01, iou=0.45, candidates_per_class=400, max_detections=200)
# VGG-16 as converted from Caffe: the mean in units of 0 to 255 is subtracted, nothing divided.
VGG_SCALING = Preprocessing(mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255))


def _published(config: SSDConfig) -> tuple[Preprocessing, Thresholds]:
    scaling = VGG_SCALING if config.backbone == "vgg16" else Preprocessing()
    return scaling, SSDLITE_THRESHOLDS if config.head == "separable" else SSD_THRESHOLDS


def _with_anchors(config: SSDConfig, sizes_wh: BoxSizes) -> SSDConfig:
    return replace(config, default_boxes=sizes_wh)


FAMILY = Family(
    config=SSDConfig,
    network=make_ssd,
    interpret=interpret_ssd,
    check=check_ssd,
    published=_published,
    with_anchors=_with_anchors,
    # The last convolution of a class branch; row 0 is the background's.
    class_rows=(ClassRows(r"head\.classification\..*\.output\.", shared=1),),
)
