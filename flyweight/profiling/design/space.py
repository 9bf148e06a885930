"""The detectors that a search looks at: backbone, width, input, neck, head, levels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.data.default_boxes import published_default_boxes
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.presets import retinanet, ssd, yolo
from flyweight.models.detectors.presets.ssd import as_box_sizes
from flyweight.models.detectors.zoo import REDUCIBLE_TAILS
from flyweight.models.layers import make_divisible
from flyweight.models.necks.yolo_fpn import YOLO_CHANNELS
from flyweight.profiling.design.capacity import PUBLISHED

EXTRAS = (512, 256, 256, 128)
# Of a RetinaNet's neck and towers at width 1 and factor 1, and the towers' layers.
RETINA_CHANNELS, TOWER_LAYERS = 128, 3
# Bases of a RetinaNet's anchors in strides, at any input; fitted to the data in the end.
STRIDES_PER_ANCHOR = 2


@dataclass(frozen=True)
class Candidate:
    """A point of the space.

    Attributes:
        backbone: a key of `PUBLISHED`.
        width: multiplier α.
        size: side of the input in pixels (ρ of MobileNets, times 224).
        neck_width, head_width: factors of the channels of neck and head.
        levels: that the head looks at.
    """

    backbone: str
    width: float
    size: int
    neck_width: float
    head_width: float
    levels: int


AXES = tuple(field.name for field in fields(Candidate))


@dataclass(frozen=True)
class Space:
    """Candidates of one kind of detector.

    Attributes:
        axes: of each field of a candidate its values; numbers from the cheapest to the dearest.
        build: from a candidate and the number of classes to a config.
    """

    axes: Mapping[str, tuple[Any, ...]]
    build: Callable[[Candidate, int], Config]

    def __len__(self) -> int:
        return int(np.prod([len(self.axes[name]) for name in AXES]))

    def __iter__(self) -> Iterator[Candidate]:
        for values in itertools.product(*(self.axes[name] for name in AXES)):
            yield Candidate(*values)

    def sample(self, rng: np.random.Generator) -> Candidate:
        """Any candidate, all alike."""
        axes = (self.axes[name] for name in AXES)
        return Candidate(*(values[rng.integers(len(values))] for values in axes))

    def along(self, candidate: Candidate, step: int) -> Iterator[Candidate]:
        """Candidates with one number `step` values on: dearer (1) or cheaper (-1)."""
        for name in (each for each in AXES if each != "backbone"):
            values = self.axes[name]
            place = values.index(getattr(candidate, name)) + step
            if 0 <= place < len(values):
                yield replace(candidate, **{name: values[place]})

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Candidates that differ in one field: another backbone, or the next value of a number."""
        for name in self.axes["backbone"]:
            if name != candidate.backbone:
                yield replace(candidate, backbone=name)
        yield from self.along(candidate, -1)
        yield from self.along(candidate, 1)

    def cheaper(self, candidate: Candidate, other: Candidate) -> bool:
        """Whether no field of `candidate` makes it dearer than `other`, of the same backbone."""
        return candidate.backbone == other.backbone and all(
            getattr(candidate, name) <= getattr(other, name) for name in AXES if name != "backbone"
        )


def _ssdlite(candidate: Candidate, num_classes: int) -> Config:
    return ssd.ssdlite(num_classes=num_classes, **_ssd_fields(candidate))


def _ssd(candidate: Candidate, num_classes: int) -> Config:
    return ssd.ssd(num_classes=num_classes, **_ssd_fields(candidate))


def _ssd_fields(candidate: Candidate) -> dict[str, Any]:
    extras = EXTRAS[: candidate.levels - 2]
    boxes = published_default_boxes(((2, 3),) * candidate.levels)
    # the zoo halves the tail of these where it trains them from random weights
    return {
        **_shared(candidate),
        "extras": tuple(make_divisible(each * candidate.neck_width, 16) for each in extras),
        "default_boxes": as_box_sizes(boxes),
        "reduced_tail": candidate.backbone in REDUCIBLE_TAILS,
    }


def _retinanet(candidate: Candidate, num_classes: int) -> Config:
    strides = [8 * 2**level for level in range(candidate.levels)]
    tower = make_divisible(RETINA_CHANNELS * candidate.head_width)
    return retinanet.retinanet(
        num_classes=num_classes,
        **_shared(candidate),
        neck_channels=make_divisible(RETINA_CHANNELS * candidate.neck_width),
        neck_separable=True,
        tower_channels=(tower,) * TOWER_LAYERS,
        tower_separable=True,
        norm="batch",
        anchor_sizes=retinanet.anchor_sizes(
            [retinanet.octave(STRIDES_PER_ANCHOR * stride) for stride in strides],
            ratios=(0.5, 1.0, 2.0),
        ),
    )


def _yolov3(candidate: Candidate, num_classes: int) -> Config:
    return yolo.yolov3(num_classes=num_classes, **_yolo_fields(candidate, yolo.YOLOV3_ANCHORS))


def _yolov4(candidate: Candidate, num_classes: int) -> Config:
    return yolo.yolov4(num_classes=num_classes, **_yolo_fields(candidate, yolo.YOLOV4_ANCHORS))


def _yolo_fields(candidate: Candidate, anchors: Any) -> dict[str, Any]:
    channels = tuple(make_divisible(each * candidate.neck_width) for each in YOLO_CHANNELS)
    return {
        **_shared(candidate),
        "neck_channels": channels,
        "anchors": anchors[-candidate.levels :],
    }


def _shared(candidate: Candidate) -> dict[str, Any]:
    return {
        "backbone": candidate.backbone,
        "width": candidate.width,
        "size_hw": (candidate.size, candidate.size),
    }


# ShuffleNets have no narrow widths; SNets are three widths of one network, and 1 is enough of each.
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5)
SIZES = (160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 512)
COMMON: dict[str, tuple[Any, ...]] = {
    "backbone": tuple(PUBLISHED),
    "width": WIDTHS,
    "size": SIZES,
    "neck_width": (0.5, 0.75, 1.0),
    "head_width": (1.0,),
}
# In SSD and YOLO the head is as wide as the neck makes it.
HEADS: dict[str, Space] = {
    "ssdlite": Space({**COMMON, "levels": (4, 5, 6)}, _ssdlite),
    "ssd": Space({**COMMON, "levels": (4, 5, 6)}, _ssd),
    "retinanet": Space({**COMMON, "head_width": (0.5, 1.0, 1.5), "levels": (3, 4, 5)}, _retinanet),
    "yolov3": Space({**COMMON, "neck_width": (0.25, 0.5, 1.0), "levels": (2, 3)}, _yolov3),
    "yolov4": Space({**COMMON, "neck_width": (0.25, 0.5, 1.0), "levels": (2, 3)}, _yolov4),
}


def space_of(head: str) -> Space:
    """The space of a kind of detector.

    Raises:
        InputError: there is no such kind.
    """
    if head not in HEADS:
        raise InputError(
            f"there is no design space for the head {head!r}",
            where="--head",
            fix=f"choose {', '.join(HEADS)}",
        )
    return HEADS[head]
