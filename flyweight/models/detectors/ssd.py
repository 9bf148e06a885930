"""SSD: Single Shot MultiBox Detector (Liu et al. 2016, https://arxiv.org/abs/1512.02325).

Here in its separable form, SSDlite (MobileNetV2, https://arxiv.org/abs/1801.04381, section 6.2;
MobileNetV3, https://arxiv.org/abs/1905.02244, section 6.3), over any backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import Backbone, build_backbone
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.heads.initialisation import initialise_head, set_background_prior
from flyweight.models.heads.ssdlite import SSDLiteHead
from flyweight.models.layers import NormFactory
from flyweight.models.losses.multibox import multibox_loss
from flyweight.models.matching.max_iou import MaxIoUMatcher
from flyweight.models.necks.ssd_extras import SSDExtras, scaled_extras
from flyweight.models.ops.anchors import BoxSizes, DefaultBoxes
from flyweight.models.ops.coder import AnchorDecoder, BoxCoder
from flyweight.models.ops.nms import select_detections

# B images, A anchors, C classes without background, G object slots


@dataclass(frozen=True)
class SSDConfig:
    """All numbers of an SSD.

    Attributes:
        name: the zoo's name of the preset it comes from.
        num_classes: C, without background.
        backbone: a name of `flyweight.models.backbones`.
        size_hw: height and width of the input, pixels.
        default_boxes: of each level the (w, h) of its boxes, relative to the input (0 to 1).
        width: multiplier of the backbone's and the extra levels' channels.
        extras: channels of the extra levels at width 1.
        min_depth: the fewest channels an extra level has at a small width.
        reduced_tail: MobileNetV3's last stage with half its channels (section 6.3); not with
            weights pretrained on ImageNet, which have the full one.
        norm_eps, norm_momentum: of BatchNorm.
        backbone_norm_eps: of the backbone's BatchNorm; None for `norm_eps`. Pretrained weights
            need the one they were trained with.
        coder_weights: inverses of the variances of (cx, cy, w, h).
        match_iou: an anchor of at least this IoU with an object is positive.
        negatives_per_positive: of the hard negative mining.
        background_prior: the probability of background before training, by the bias of the
            class head; None starts from all classes alike.
        folded: BatchNorm is folded into the convolutions, the modules have none.
    """

    family: ClassVar[str] = "ssd"

    name: str
    num_classes: int
    backbone: str
    size_hw: tuple[int, int]
    default_boxes: BoxSizes
    width: float = 1.0
    extras: tuple[int, ...] = (512, 256, 256, 128)
    min_depth: int = 16
    reduced_tail: bool = False
    norm_eps: float = 0.001
    norm_momentum: float = 0.03
    backbone_norm_eps: float | None = None
    coder_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    match_iou: float = 0.5
    negatives_per_positive: float = 3.0
    background_prior: float | None = None
    folded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the detector's family; `from_dict` reads it back."""
        return {"family": self.family, **{key: _listed(v) for key, v in asdict(self).items()}}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> SSDConfig:
        """The inverse of `to_dict`, also after JSON has made lists of the tuples.

        Raises:
            InputError: a field is missing, or unknown to this Flyweight.
        """
        values = {key: _frozen(value) for key, value in content.items() if key != "family"}
        unknown = sorted(values.keys() - {field.name for field in fields(SSDConfig)})
        if unknown:
            raise InputError(
                f"unknown field {unknown[0]!r} in the config of an SSD",
                fix="read it with the Flyweight version that wrote it, or a newer one",
            )
        try:
            return SSDConfig(**values)
        except TypeError as error:
            raise InputError(f"incomplete config of an SSD: {error}") from error


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


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
        default_boxes: DefaultBoxes,
        *,
        coder: BoxCoder,
        matcher: MaxIoUMatcher,
        negatives_per_positive: float = 3.0,
    ) -> None:
        super().__init__()
        self.default_boxes = default_boxes
        self.coder = coder
        self.matcher = matcher
        self.negatives_per_positive = negatives_per_positive

    @torch.no_grad()
    def assign(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """What each anchor should say.

        Returns:
            Deltas `[B, A, 4]`, zero where background; classes int64 `[B, A]`, 0 for background.
        """
        anchors = self.default_boxes.boxes_xyxy
        images, slots = targets.labels.shape
        if slots == 0:
            shape = (images, len(anchors))
            return anchors.new_zeros(*shape, 4), torch.zeros(
                shape, dtype=torch.int64, device=anchors.device
            )
        matches = self.matcher(targets.boxes_xyxy, targets.valid, anchors)
        positive = matches >= 0
        slot = matches.clamp(min=0)
        classes = torch.where(positive, targets.labels.gather(1, slot) + 1, 0)
        boxes = targets.boxes_xyxy.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4))
        # Background anchors aim at themselves: a padded slot has no size, and log(0) would poison.
        boxes = torch.where(positive.unsqueeze(-1), boxes, anchors)
        return self.coder.encode(boxes, anchors), classes

    def forward(self, raw: SSDOutputs, targets: Targets) -> dict[str, Tensor]:
        """`box` and `class` losses, scalars."""
        deltas, classes = self.assign(targets)
        return multibox_loss(
            raw.deltas,
            raw.logits,
            deltas,
            classes,
            negatives_per_positive=self.negatives_per_positive,
        )


class SSDPostprocess(nn.Module):
    """Decoding, thresholds, NMS."""

    def __init__(self, default_boxes: DefaultBoxes, *, coder: BoxCoder) -> None:
        super().__init__()
        self.decoder = AnchorDecoder(
            coder, default_boxes.boxes_cxcywh, size_hw=default_boxes.size_hw
        )

    def decode(self, raw: SSDOutputs) -> tuple[Tensor, Tensor]:
        """Boxes `xyxy [B, A, 4]` in input pixels, within the input; scores `[B, A, C]`."""
        return self.decoder(raw.deltas), raw.logits.softmax(dim=-1)[..., 1:]

    def forward(
        self, raw: SSDOutputs, thresholds: Thresholds
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [K, 4]` (input pixels), `scores [K]`, `labels [K]`."""
        boxes, scores = self.decode(SSDOutputs(raw.deltas.float(), raw.logits.float()))
        return [
            select_detections(
                boxes_of_image,
                scores_of_image,
                score_threshold=thresholds.score,
                iou_threshold=thresholds.iou,
                candidates_per_class=thresholds.candidates_per_class,
                max_detections=thresholds.max_detections,
            )
            for boxes_of_image, scores_of_image in zip(boxes, scores, strict=True)
        ]


def level_grids(
    backbone: Backbone, neck: SSDExtras, size_hw: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of each level at an input of `size_hw` pixels."""
    height, width = size_hw
    # A level of stride s covers every begun cell: sizes are rounded up.
    grids = [
        (-(-height // each.stride), -(-width // each.stride)) for each in backbone.feature_info
    ]
    return neck.grids(grids)


def _norms(config: SSDConfig) -> tuple[NormFactory | None, NormFactory | None]:
    """BatchNorm of neck and head, and that of the backbone; None where folded away."""
    if config.folded:
        return None, None
    norm = partial(nn.BatchNorm2d, momentum=config.norm_momentum)
    eps = config.backbone_norm_eps
    return (
        partial(norm, eps=config.norm_eps),
        partial(norm, eps=config.norm_eps if eps is None else eps),
    )


def build_ssd(
    config: SSDConfig,
    *,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    thresholds: Thresholds | None = None,
    lineage: dict[str, Any] | None = None,
) -> Detector:
    """The detector of a config, freshly initialised."""
    norm, backbone_norm = _norms(config)
    options = {"reduced_tail": True} if config.reduced_tail else {}
    backbone = build_backbone(
        config.backbone, outputs="ssdlite", width=config.width, norm=backbone_norm, **options
    )
    neck = SSDExtras(
        [level.channels for level in backbone.feature_info],
        scaled_extras(config.extras, width=config.width, min_depth=config.min_depth),
        norm=norm,
    )
    grids = level_grids(backbone, neck, config.size_hw)
    default_boxes = DefaultBoxes(grids, config.default_boxes, size_hw=config.size_hw)
    head = SSDLiteHead(
        neck.out_channels,
        default_boxes.boxes_per_level,
        num_classes=config.num_classes,
        norm=norm,
    )
    initialise_head(neck)
    initialise_head(head)
    if config.background_prior is not None:
        set_background_prior(head.classification, config.background_prior)
    coder = BoxCoder(config.coder_weights)
    return Detector(
        config,
        model=SSD(backbone, neck, head),
        objective=SSDObjective(
            default_boxes,
            coder=coder,
            matcher=MaxIoUMatcher(config.match_iou),
            negatives_per_positive=config.negatives_per_positive,
        ),
        postprocess=SSDPostprocess(default_boxes, coder=coder),
        class_names=class_names,
        preprocessing=preprocessing,
        thresholds=thresholds,
        lineage=lineage,
    )
