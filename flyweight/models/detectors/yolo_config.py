"""All numbers of a YOLO, and what they must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from flyweight.core.errors import InputError
from flyweight.models.detectors.config import from_dict, to_dict
from flyweight.models.detectors.parts import ACTIVATIONS, NORMS
from flyweight.models.detectors.pruned import Pruned
from flyweight.models.layers import make_divisible
from flyweight.models.losses.yolo import Normalisation, YOLOBoxLoss
from flyweight.models.necks import PYRAMIDS
from flyweight.models.necks.yolo_fpn import YOLO_CHANNELS
from flyweight.models.ops.anchors import BoxSizes

BACKBONE_LEVELS = ("C3", "C4", "C5")
YOLO_NECKS = ("yolo_fpn", "yolo_pan")
# Of every level in a neck that has no published widths for YOLO.
PLAIN_CHANNELS = 128


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
        norm: "batch", "cmbn", "group" or "none": of neck and head.
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
        normalisation: losses are divided by the "positives" of the batch, or by its "images", as
            in Darknet: gradients then grow with the objects in a picture, and the learning rate
            and clipping of other detectors do not suit them.
        folded: BatchNorm is folded into the convolutions, the modules have none.
        pruned: layers that pruning left narrower than these numbers say.
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
    normalisation: str = "positives"
    folded: bool = False
    pruned: Pruned = ()

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
        further = len(self.anchors) - len(self.scale_xy)
        return (self.scale_xy + self.scale_xy[-1:] * further)[-len(self.anchors) :]

    @property
    def channels(self) -> int | tuple[int, ...]:
        """Channels of the neck's levels at this width, multiples of 8."""
        own = YOLO_CHANNELS if self.neck in YOLO_NECKS else PLAIN_CHANNELS
        wanted = own if self.neck_channels is None else self.neck_channels
        if isinstance(wanted, int):
            return make_divisible(wanted * self.width)
        widths = wanted[-len(self.anchors) :]
        return tuple(make_divisible(each * self.width) for each in widths)


def check_yolo(config: YOLOConfig) -> None:
    """Raise an InputError where the numbers of a config contradict each other."""
    for field, choices in (
        ("neck", tuple(PYRAMIDS)),
        ("act", tuple(ACTIVATIONS)),
        ("norm", NORMS),
        ("box_loss", get_args(YOLOBoxLoss)),
        ("normalisation", get_args(Normalisation)),
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
