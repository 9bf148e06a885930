"""The zoo: every detector by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, cast

import torch

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.default_boxes import published_default_boxes
from flyweight.models.detectors.checkpoint import load_manifest
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.ssd import SSD, SSDConfig, SSDObjective, build_ssd
from flyweight.models.heads.initialisation import initialise_head
from flyweight.models.ops.anchors import BoxSizes
from flyweight.models.pretrained import load_pretrained_backbone

CODE_LICENCE = "Apache-2.0"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALLEST_SIZE = 32


def _ssdlite(backbone: str, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite at 320 with six levels of six boxes, sizes 0.2 to 0.95 of the input."""
    config = SSDConfig(
        name=f"ssdlite320_{backbone}",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(320, 320),
        default_boxes=as_box_sizes(published_default_boxes()),
    )
    return replace(config, **changes)


def ssdlite320_mobilenet_v1(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV1: plain depthwise separable layers, the easiest to run anywhere."""
    return _ssdlite("mobilenet_v1", num_classes, **changes)


def ssdlite320_mobilenet_v2(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV2: the usual choice; quantises well; ImageNet weights offline."""
    return _ssdlite("mobilenet_v2", num_classes, **changes)


def ssdlite320_mobilenet_v3_large(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV3-Large: the fewest operations for its accuracy."""
    return _ssdlite("mobilenet_v3_large", num_classes, **changes)


def ssdlite320_mobilenet_v3_small(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV3-Small: the smallest, for simple scenes and slow devices."""
    return _ssdlite("mobilenet_v3_small", num_classes, **changes)


ZOO: dict[str, Callable[..., SSDConfig]] = {
    "ssdlite320_mobilenet_v1": ssdlite320_mobilenet_v1,
    "ssdlite320_mobilenet_v2": ssdlite320_mobilenet_v2,
    "ssdlite320_mobilenet_v3_large": ssdlite320_mobilenet_v3_large,
    "ssdlite320_mobilenet_v3_small": ssdlite320_mobilenet_v3_small,
}

# MobileNetV3's published SSDlite halves the tail where no ImageNet weights need the full one.
REDUCIBLE_TAILS = ("mobilenet_v3_large", "mobilenet_v3_small")

# BatchNorm's epsilon in the published ImageNet weights. It belongs to the weights: a third of
# MobileNetV2's channels have a variance below 0.001, and SSDlite's epsilon of 0.001 in place of
# its own changes the backbone's output by 95 % of its norm.
PRETRAINED_NORM_EPS = {
    "mobilenet_v1": 1e-5,
    "mobilenet_v2": 1e-5,
    "mobilenet_v3_large": 1e-3,
    "mobilenet_v3_small": 1e-3,
}

# torchvision's SSDlite, but for the score: what lies between 0.001 and 0.01 hardly moves AP and
# costs NMS most of its time.
SSDLITE_THRESHOLDS = Thresholds(score=0.01, iou=0.55, candidates_per_class=300, max_detections=300)


@dataclass(frozen=True)
class ZooEntry:
    """One line of `flyweight models`."""

    name: str
    description: str
    size_hw: tuple[int, int]
    params: int
    anchors: int


def describe(name: str, *, num_classes: int = 90) -> ZooEntry:
    """What a model is and weighs, with the classes of COCO unless told otherwise."""
    config = _preset(name)(num_classes=num_classes)
    config = replace(config, reduced_tail=config.backbone in REDUCIBLE_TAILS)
    # On the meta device nothing is allocated: only shapes are counted.
    with torch.device("meta"):
        detector = build_ssd(
            config,
            class_names=[str(index) for index in range(num_classes)],
            preprocessing=Preprocessing(size_hw=config.size_hw),
        )
    return ZooEntry(
        name=name,
        description=(ZOO[name].__doc__ or "").strip(),
        size_hw=config.size_hw,
        params=sum(parameter.numel() for parameter in detector.parameters()),
        anchors=len(cast(SSDObjective, detector.objective).default_boxes),
    )


def build(
    name: str,
    *,
    classes: Sequence[str],
    size: int | tuple[int, int] | None = None,
    width: float | None = None,
    pretrained: str | os.PathLike[str] = "none",
    default_boxes: Sequence[Sequence[tuple[float, float]]] | None = None,
    preprocessing: Preprocessing | None = None,
    thresholds: Thresholds | None = None,
    **changes: Any,
) -> Detector:
    """A detector of the zoo, ready to be trained.

    Args:
        name: a key of ZOO.
        classes: names, in the order of the labels.
        size: of the input, pixels: a side, or height and width; the preset's if None.
        width: multiplier of the channels; the preset's if None.
        pretrained: `none`, `imagenet` for the backbone's ImageNet weights, or a file of them.
        default_boxes: of each level the (w, h) of its boxes, relative to the input (0 to 1);
            the published ones if None.
        preprocessing: how a picture becomes the input; if None, stretched, with the mean and
            deviation of the pretrained weights, 0.5 without (as published).
        thresholds: from dense outputs to detections.
        changes: any other field of the config, such as `background_prior=0.97`.

    Raises:
        InputError: an unknown name or field, or a value that cannot be.
    """
    preset, names = _preset(name), checked_class_names(classes)
    source = os.fspath(pretrained)
    if size is not None:
        changes["size_hw"] = checked_size(size)
    if width is not None:
        if not width > 0:
            raise InputError(f"width {width} is not positive", where="width", fix="give e.g. 0.5")
        changes["width"] = float(width)
    if default_boxes is not None:
        changes["default_boxes"] = as_box_sizes(default_boxes)
    unknown = changes.keys() - {field.name for field in fields(SSDConfig)}
    if unknown:
        raise InputError(f"unknown option {min(unknown)!r}", where=name)
    check_prior(changes.get("background_prior"))
    own, own_preprocessing = _starting_point(name, source)
    config = preset(num_classes=len(names), **(own | changes))
    check_default_boxes(config)
    preprocessing = preprocessing or own_preprocessing
    detector = build_ssd(
        config,
        class_names=names,
        preprocessing=replace(preprocessing, size_hw=config.size_hw),
        thresholds=thresholds or SSDLITE_THRESHOLDS,
    )
    backbone = cast(SSD, detector.model).backbone
    if source == "none":
        initialise_head(backbone)
    detector.lineage = {
        "code_licence": CODE_LICENCE,
        "pretrained": load_pretrained_backbone(backbone, config.backbone, source),
    }
    return detector


def _starting_point(name: str, source: str) -> tuple[dict[str, Any], Preprocessing]:
    """What the weights at `source` need of the config, and how they want their input scaled."""
    backbone = _preset(name)(num_classes=1).backbone
    if source == "none":
        return {"reduced_tail": backbone in REDUCIBLE_TAILS}, Preprocessing()
    if source.endswith(".safetensors"):
        with suppress(InputError):  # not ours: then a backbone's, as published
            manifest = load_manifest(source)
            theirs = SSDConfig.from_dict(manifest.model)
            eps = theirs.backbone_norm_eps
            needs = {
                "reduced_tail": theirs.reduced_tail,
                "backbone_norm_eps": theirs.norm_eps if eps is None else eps,
            }
            return needs, manifest.preprocessing
    scaling = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return {"backbone_norm_eps": PRETRAINED_NORM_EPS[backbone]}, scaling


def _preset(name: str) -> Callable[..., SSDConfig]:
    if name not in ZOO:
        near = get_close_matches(name, ZOO, n=3, cutoff=0.3) or sorted(ZOO)
        raise InputError(f"unknown model {name!r}", fix=f"did you mean {', '.join(near)}?")
    return ZOO[name]


def as_box_sizes(default_boxes: Sequence[Sequence[tuple[float, float]]]) -> BoxSizes:
    """Default boxes as the hashable tuples that a config holds."""
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in default_boxes)


def check_prior(prior: float | None) -> None:
    """Raise an InputError unless the background's prior is a probability, or none is wanted."""
    if prior is not None and not 0 < prior < 1:
        raise InputError(
            f"background_prior {prior} is not between 0 and 1", where="background_prior"
        )


def check_default_boxes(config: SSDConfig) -> None:
    """Raise an InputError unless each level has boxes of a positive size."""
    levels = 2 + len(config.extras)
    if len(config.default_boxes) != levels:
        raise InputError(
            f"default boxes for {len(config.default_boxes)} levels, {config.name} has {levels}",
            where="default_boxes",
        )
    for index, level in enumerate(config.default_boxes):
        if not level or not all(0 < side < 10 for box in level for side in box):
            raise InputError(
                f"level {index} needs at least one default box, of sides above 0",
                where="default_boxes",
                fix="give (width, height) relative to the input, 0 to 1",
            )


def checked_class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple; an InputError where there are none, or one twice."""
    names = (classes,) if isinstance(classes, str) else tuple(str(name) for name in classes)
    if not names:
        raise InputError("no class names", where="classes", fix="name at least one class")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"class {twice[0]!r} is named twice", where="classes")
    return names


def checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width; an InputError where the network would have nothing left to look at."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST_SIZE:
        raise InputError(
            f"input size {height}x{width} is too small",
            where="size",
            fix=f"take at least {SMALLEST_SIZE} pixels a side",
        )
    return int(height), int(width)
