"""YOLOv3 (Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767) and YOLOv4 (Bochkovskiy, Wang
and Liao 2020, https://arxiv.org/abs/2004.10934).

One file for both, over any backbone: they differ in the backbone and neck that are injected, in
how far a cell reaches, and in the numbers of matching and loss. Published weights are Darknet's
(`darknet_weights.py`); where paper and Darknet differ, this is Darknet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.nms import NmsKind
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import Backbone
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.detectors.config import from_dict, to_dict
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.family import ClassRows, Family
from flyweight.models.detectors.parts import (
    ACTIVATIONS,
    NORMS,
    make_backbone,
    make_norm,
    named_activation,
)
from flyweight.models.detectors.targets import Targets
from flyweight.models.heads.yolo import SHARED_COLUMNS, YOLOHead, initialise_outputs
from flyweight.models.layers import ActFactory, ConvNormAct, DepthwiseSeparable, make_divisible
from flyweight.models.layers.conv import NormFactory
from flyweight.models.losses.yolo import Normalisation, YOLOBoxLoss, yolo_loss
from flyweight.models.matching.yolo import YOLOMatcher, ignore_by_iou
from flyweight.models.necks import PYRAMIDS
from flyweight.models.necks.yolo_fpn import YOLO_CHANNELS
from flyweight.models.ops.anchors import AnchorGrid, BoxSizes, pixel_sizes, relative_sizes
from flyweight.models.ops.feature_grids import feature_grids
from flyweight.models.ops.nms import select_detections
from flyweight.models.ops.yolo_coder import YOLOCoder

# B images, A anchors, C classes, G object slots

BACKBONE_LEVELS = ("C3", "C4", "C5")
YOLO_NECKS = ("yolo_fpn", "yolo_pan")
# Of every level in a neck that has no published widths for YOLO.
PLAIN_CHANNELS = 128
BACKGROUND, IGNORED = -1, -2


@dataclass(frozen=True)
class YOLOConfig:
    """All numbers of a YOLO.

    Attributes:
        name: the zoo's name of the preset it comes from.
        num_classes: C.
        backbone: a name of `flyweight.models.backbones`.
        size_hw: height and width of the input, pixels; multiples of 32 in Darknet, any here.
        anchors: of each level the (w, h) of its anchors, pixels. They stay what they are when the
            size of the input changes, as in Darknet.
        scale_xy: how far the centres of each level reach, in cells (`scale_x_y` of the cfg); the
            last holds for all further levels.
        width: multiplier of the backbone's and the neck's channels.
        backbone_options: of the family of backbones.
        neck: "yolo_fpn" (v3), "yolo_pan" (v4), or another pyramid: "fpn", "pan".
        neck_channels: at width 1, of each of the backbone's levels that the neck reads, or one
            number for all; None for the neck's own.
        separable: the 3×3 convolutions of neck and head are depthwise separable.
        act: activation of neck and head.
        norm: "batch", "group" or "none": of neck and head.
        norm_eps, norm_momentum: of BatchNorm.
        backbone_norm: of the backbone.
        backbone_norm_eps: of the backbone's BatchNorm; None for `norm_eps`. Pretrained weights
            need the one they were trained with.
        prior: the probability of an object, and of each class of it, before training.
        match_iou: an object also takes anchors of its centre's cells whose size fits by more than
            this (v4); None for the best alone (v3).
        ignore_iou: predictions that overlap an object by more are never called background.
        box_loss: "offsets" (v3: errors of the raw offsets, small objects counting up to twice),
            or one minus "iou", "giou", "diou" or "ciou" (v4).
        label_smoothing: of the classes.
        box_weight, objectness_weight, class_weight: factors of the losses.
        nms: "greedy", or "diou", which spares boxes whose centres lie apart (v4, section 3.4); the
            soft kinds lower scores instead. Exported files and the runtime are always greedy.
        normalisation: losses are divided by the "images" of the batch, as in Darknet, or by the
            "positives".
        folded: BatchNorm is folded into the convolutions, the modules have none.
    """

    family: ClassVar[str] = "yolo"

    name: str
    num_classes: int
    backbone: str
    size_hw: tuple[int, int]
    anchors: BoxSizes
    scale_xy: tuple[float, ...] = (1.0,)
    width: float = 1.0
    backbone_options: tuple[tuple[str, Any], ...] = ()
    neck: str = "yolo_fpn"
    neck_channels: int | tuple[int, ...] | None = None
    separable: bool = False
    act: str = "leaky_relu"
    norm: str = "batch"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    backbone_norm: str = "batch"
    backbone_norm_eps: float | None = None
    prior: float = 0.01
    match_iou: float | None = None
    ignore_iou: float = 0.7
    box_loss: str = "offsets"
    label_smoothing: float = 0.0
    box_weight: float = 1.0
    objectness_weight: float = 1.0
    class_weight: float = 1.0
    normalisation: str = "images"
    nms: str = "greedy"
    folded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the detector's family; `from_dict` reads it back."""
        return to_dict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> YOLOConfig:
        """The inverse of `to_dict`."""
        return from_dict(YOLOConfig, content)

    @property
    def scale_of_levels(self) -> tuple[float, ...]:
        """`scale_xy` of every level."""
        missing = len(self.anchors) - len(self.scale_xy)
        return (self.scale_xy + self.scale_xy[-1:] * max(0, missing))[: len(self.anchors)]

    @property
    def channels(self) -> int | tuple[int, ...]:
        """Channels of the neck's levels at this width, multiples of 8."""
        own = YOLO_CHANNELS if self.neck in YOLO_NECKS else PLAIN_CHANNELS
        wanted = own if self.neck_channels is None else self.neck_channels
        if isinstance(wanted, int):
            return make_divisible(wanted * self.width)
        widths = wanted[-len(self.anchors) :]
        return tuple(make_divisible(each * self.width) for each in widths)


class YOLOOutputs(NamedTuple):
    """Raw outputs: `offsets [B, A, 4]` (t_x, t_y, t_w, t_h), `objectness [B, A]` and class
    `logits [B, A, C]`."""

    offsets: Tensor
    objectness: Tensor
    logits: Tensor


class YOLO(nn.Module):
    """Images `[B, 3, H, W]`, normalised, to `YOLOOutputs`."""

    def __init__(self, backbone: Backbone, neck: nn.Module, head: YOLOHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def features(self, images: Tensor) -> list[Tensor]:
        """The levels that the head looks at, `[B, C, H, W]` each, finest first."""
        levels: list[Tensor] = self.neck(self.backbone(images))
        return levels

    def forward(self, images: Tensor) -> YOLOOutputs:
        return YOLOOutputs(*self.head(self.features(images)))


class YOLOObjective(nn.Module):
    """Matching and the losses, over the whole batch at once."""

    def __init__(
        self,
        anchors: AnchorGrid,
        *,
        coder: YOLOCoder,
        matcher: YOLOMatcher,
        ignore_iou: float = 0.7,
        box_loss: YOLOBoxLoss = "offsets",
        label_smoothing: float = 0.0,
        box_weight: float = 1.0,
        objectness_weight: float = 1.0,
        class_weight: float = 1.0,
        normalisation: Normalisation = "images",
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.coder = coder
        self.matcher = matcher
        self.ignore_iou = ignore_iou
        self.box_loss = box_loss
        self.label_smoothing = label_smoothing
        self.weights = {
            "box_weight": box_weight,
            "objectness_weight": objectness_weight,
            "class_weight": class_weight,
        }
        self.normalisation = normalisation

    @torch.no_grad()
    def assign(self, predicted_xyxy: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """What each anchor should say.

        Args:
            predicted_xyxy: `[B, A, 4]` pixels, what each says now: a good box of an object that
                another anchor answers for is ignored.

        Returns:
            Boxes `[B, A, 4]` pixels, the anchor's own where it has no object; classes int64
            `[B, A]`, -1 for background and -2 for ignored.
        """
        own = self.anchors.boxes_xyxy.expand_as(predicted_xyxy)
        images, slots = targets.labels.shape
        if slots == 0:
            return own, targets.labels.new_full((images, len(self.anchors)), BACKGROUND)
        matches = self.matcher(targets.boxes_xyxy, targets.valid)
        ignored = ignore_by_iou(
            predicted_xyxy, targets.boxes_xyxy, targets.valid, threshold=self.ignore_iou
        )
        positive = matches >= 0
        slot = matches.clamp(min=0)
        elsewhere = torch.where(ignored, IGNORED, BACKGROUND)
        classes = torch.where(positive, targets.labels.gather(1, slot), elsewhere)
        boxes = targets.boxes_xyxy.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4))
        return torch.where(positive.unsqueeze(-1), boxes, own), classes

    def forward(self, raw: YOLOOutputs, targets: Targets) -> dict[str, Tensor]:
        """`box`, `objectness` and `class` losses, scalars."""
        offsets = raw.offsets.float()
        predicted = self.coder.decode(offsets)
        boxes, classes = self.assign(predicted.detach(), targets)
        by_offsets: dict[str, Tensor] = {}
        if self.box_loss == "offsets":
            height, width = self.anchors.size_hw
            sides = boxes[..., 2:] - boxes[..., :2]
            by_offsets = {
                "offsets": offsets,
                "target_offsets": self.coder.encode(boxes),
                # Small objects weigh more: Darknet's factor, in place of YOLOv1's square roots.
                "box_scale": 2 - sides.prod(dim=-1) / (height * width),
            }
        return yolo_loss(
            predicted,
            raw.objectness,
            raw.logits,
            boxes,
            classes,
            kind=self.box_loss,
            label_smoothing=self.label_smoothing,
            normalisation=self.normalisation,
            **self.weights,
            **by_offsets,
        )


class YOLOPostprocess(nn.Module):
    """Decoding, thresholds, NMS."""

    limit: Tensor

    def __init__(
        self, coder: YOLOCoder, *, size_hw: tuple[int, int], nms: NmsKind = "greedy"
    ) -> None:
        super().__init__()
        self.nms = nms
        self.coder = coder
        height, width = size_hw
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        self.register_buffer("limit", limit, persistent=False)

    def decode(self, raw: YOLOOutputs) -> tuple[Tensor, Tensor]:
        """Boxes `xyxy [B, A, 4]` in input pixels, within the input; scores `[B, A, C]`, objectness
        times class probability."""
        boxes = torch.minimum(self.coder.decode(raw.offsets).clamp(min=0), self.limit)
        return boxes, raw.objectness.sigmoid().unsqueeze(-1) * raw.logits.sigmoid()

    def forward(
        self, raw: YOLOOutputs, thresholds: Thresholds
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [K, 4]` (input pixels), `scores [K]`, `labels [K]`."""
        boxes, scores = self.decode(YOLOOutputs(*(each.float() for each in raw)))
        return [
            select_detections(
                boxes_of_image,
                scores_of_image,
                score_threshold=thresholds.score,
                iou_threshold=thresholds.iou,
                candidates_per_class=thresholds.candidates_per_class,
                max_detections=thresholds.max_detections,
                kind=self.nms,
            )
            for boxes_of_image, scores_of_image in zip(boxes, scores, strict=True)
        ]


def check_yolo(config: YOLOConfig) -> None:
    """Raise an InputError where the numbers of a config contradict each other."""
    for field, choices in (
        ("neck", tuple(PYRAMIDS)),
        ("act", tuple(ACTIVATIONS)),
        ("norm", NORMS),
        ("box_loss", get_args(YOLOBoxLoss)),
        ("normalisation", get_args(Normalisation)),
        ("nms", get_args(NmsKind)),
    ):
        value = getattr(config, field)
        if value not in choices:
            raise InputError(
                f"unknown {field} {value!r}", where=field, fix=f"choose {', '.join(choices)}"
            )
    for field in ("prior", "ignore_iou", "label_smoothing", "match_iou"):
        value = getattr(config, field)
        if value is not None and not (0 < value < 1 or (value == 0 and field != "prior")):
            raise InputError(f"{field} {value} is not between 0 and 1", where=field)
    if not config.anchors:
        raise InputError("anchors for no level", where="anchors")
    for index, level in enumerate(config.anchors):
        if not level or not all(side > 0 for box in level for side in box):
            raise InputError(
                f"level {index} needs at least one anchor, of sides above 0",
                where="anchors",
                fix="give (width, height) in pixels",
            )
    if not config.scale_xy or min(config.scale_xy) < 1:
        raise InputError(
            f"scale_xy {config.scale_xy}: a cell must be within reach",
            where="scale_xy",
            fix="give at least 1.0",
        )
    levels = min(len(BACKBONE_LEVELS), len(config.anchors))
    uniform = isinstance(config.channels, int)
    if not uniform and (config.neck not in YOLO_NECKS or len(config.channels) < levels):  # type: ignore[arg-type]
        raise InputError(
            f"neck_channels {config.neck_channels} do not fit the neck {config.neck}",
            where="neck_channels",
            fix=f"give one number{f', or {levels}' if config.neck in YOLO_NECKS else ''}",
        )


def separable_conv(
    in_channels: int,
    out_channels: int,
    *,
    stride: int = 1,
    norm: NormFactory | None,
    act: ActFactory,
) -> nn.Module:
    """A 3×3 convolution in depthwise separable form, `act` after both halves."""
    return DepthwiseSeparable(
        in_channels, out_channels, stride=stride, norm=norm, act=act, pointwise_act=act
    )


def build_yolo(
    config: YOLOConfig,
    *,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    thresholds: Thresholds | None = None,
    lineage: dict[str, Any] | None = None,
) -> Detector:
    """The detector of a config, freshly initialised."""
    # Of fewer levels than three the coarsest, as in YOLOv3-tiny.
    backbone = make_backbone(
        config,
        BACKBONE_LEVELS[-len(config.anchors) :],
        eps=config.norm_eps,
        momentum=config.norm_momentum,
    )
    norm = make_norm(
        config.norm, eps=config.norm_eps, momentum=config.norm_momentum, folded=config.folded
    )
    convs: dict[str, Any] = {
        "act": named_activation(config.act),
        "conv": separable_conv if config.separable else ConvNormAct,
    }
    neck: Any = PYRAMIDS[config.neck](
        backbone.feature_info,
        channels=config.channels,
        num_levels=len(config.anchors),
        norm=norm,
        **(convs if config.neck in YOLO_NECKS else {}),
    )
    strides = [float(level.stride) for level in neck.feature_info]
    anchors = AnchorGrid(
        feature_grids(nn.Sequential(backbone, neck), config.size_hw),
        relative_sizes(config.anchors, config.size_hw),
        size_hw=config.size_hw,
        steps=strides,
    )
    head = YOLOHead(
        [level.channels for level in neck.feature_info],
        anchors.boxes_per_level,
        num_classes=config.num_classes,
        norm=norm,
        **convs,
    )
    initialise_backbone(neck)
    initialise_backbone(head)
    initialise_outputs(head, prior=config.prior)
    coder = YOLOCoder(anchors, strides=strides, scale_xy=config.scale_of_levels)
    return Detector(
        config,
        model=YOLO(backbone, neck, head),
        objective=_make_objective(config, anchors, coder=coder, strides=strides),
        postprocess=YOLOPostprocess(coder, size_hw=config.size_hw, nms=cast(NmsKind, config.nms)),
        class_names=class_names,
        preprocessing=preprocessing,
        thresholds=thresholds,
        lineage=lineage,
    )


def _make_objective(
    config: YOLOConfig, anchors: AnchorGrid, *, coder: YOLOCoder, strides: Sequence[float]
) -> YOLOObjective:
    return YOLOObjective(
        anchors,
        coder=coder,
        matcher=YOLOMatcher(
            config.anchors,
            anchors.grids,
            [int(stride) for stride in strides],
            iou_threshold=config.match_iou,
        ),
        ignore_iou=config.ignore_iou,
        box_loss=cast(YOLOBoxLoss, config.box_loss),
        label_smoothing=config.label_smoothing,
        box_weight=config.box_weight,
        objectness_weight=config.objectness_weight,
        class_weight=config.class_weight,
        normalisation=cast(Normalisation, config.normalisation),
    )


YOLO_THRESHOLDS = Thresholds(score=0.01, iou=0.45, candidates_per_class=400, max_detections=300)
# Darknet's networks see 0 to 1; it pads a letterbox with the middle grey.
DARKNET_SCALING = Preprocessing(
    resize="letterbox", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), pad_value=128
)


def _published(config: YOLOConfig) -> tuple[Preprocessing, Thresholds]:
    return DARKNET_SCALING, YOLO_THRESHOLDS


def _with_anchors(config: YOLOConfig, sizes_wh: BoxSizes) -> YOLOConfig:
    return replace(config, anchors=pixel_sizes(sizes_wh, config.size_hw))


FAMILY = Family(
    config=YOLOConfig,
    build=build_yolo,
    check=check_yolo,
    published=_published,
    with_anchors=_with_anchors,
    # The last convolution of each level; box and objectness are no class's.
    class_rows=(ClassRows(r"head\.prediction\..*\.output\.", shared=SHARED_COLUMNS),),
)
