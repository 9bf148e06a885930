"""The zoo: every detector by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, cast

import torch

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.checkpoint import load_manifest
from flyweight.models.detectors.config import Config, field_names
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.families import FAMILIES
from flyweight.models.detectors.family import Family
from flyweight.models.detectors.parts import IMAGENET_MEAN, IMAGENET_STD
from flyweight.models.detectors.preset_file import (
    NOT_IN_A_FILE,
    Preset,
    is_preset_file,
    read_preset,
)
from flyweight.models.detectors.presets import faster_rcnn, retinanet, ssd, yolo
from flyweight.models.detectors.presets.ssd import as_box_sizes
from flyweight.models.pretrained import (
    PRETRAINED_ACT,
    PRETRAINED_NORM_EPS,
    load_pretrained_backbone,
)

CODE_LICENCE = "Apache-2.0"
SMALLEST_SIZE = 32

# Called with `num_classes` and any field of the config; the docstring's first line describes it.
ZOO: dict[str, Callable[..., Any]] = {
    "ssdlite320_mobilenet_v1": ssd.ssdlite320_mobilenet_v1,
    "ssdlite320_mobilenet_v2": ssd.ssdlite320_mobilenet_v2,
    "ssdlite320_mobilenet_v3_large": ssd.ssdlite320_mobilenet_v3_large,
    "ssdlite320_mobilenet_v3_small": ssd.ssdlite320_mobilenet_v3_small,
    "mobilenet_ssd300": ssd.mobilenet_ssd300,
    "ssd300_vgg16": ssd.ssd300_vgg16,
    "retinanet_snet": retinanet.retinanet_snet,
    "retinanet_resnet50_fpn": retinanet.retinanet_resnet50_fpn,
    "retinanet_resnet101_fpn": retinanet.retinanet_resnet101_fpn,
    "faster_rcnn_resnet50_fpn": faster_rcnn.faster_rcnn_resnet50_fpn,
    "faster_rcnn_resnet101_fpn": faster_rcnn.faster_rcnn_resnet101_fpn,
    "faster_rcnn_mobilenet_v3_large_320_fpn": faster_rcnn.faster_rcnn_mobilenet_v3_large_320_fpn,
    "faster_rcnn_vgg16": faster_rcnn.faster_rcnn_vgg16,
    "yolov3_darknet53": yolo.yolov3_darknet53,
    "yolov4_cspdarknet53": yolo.yolov4_cspdarknet53,
    # Kinds of detectors, to be given a backbone.
    "ssdlite": ssd.ssdlite,
    "ssd": ssd.ssd,
    "retinanet": retinanet.retinanet,
    "faster_rcnn": faster_rcnn.faster_rcnn,
    "yolov3": yolo.yolov3,
    "yolov4": yolo.yolov4,
}

# MobileNetV3's published SSDlite halves the tail where no ImageNet weights need the full one.
REDUCIBLE_TAILS = ("mobilenet_v3_large", "mobilenet_v3_small")


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
    config: Config = _preset(name)(num_classes=num_classes)
    config = replace(config, **_needs_from_scratch(config))
    # On the meta device nothing is allocated: only shapes are counted.
    with torch.device("meta"):
        detector = FAMILIES[config.family].build(
            config,
            class_names=[str(index) for index in range(num_classes)],
            preprocessing=Preprocessing(size_hw=config.size_hw),
        )
    return ZooEntry(
        name=name,
        description=(ZOO[name].__doc__ or "").strip(),
        size_hw=config.size_hw,
        params=sum(parameter.numel() for parameter in detector.parameters()),
        anchors=len(cast(Any, detector.objective).anchors),
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
        name: a key of ZOO, or a preset file.
        classes: names, in the order of the labels.
        size: of the input, pixels: a side, or height and width; the preset's if None.
        width: multiplier of the channels; the preset's if None.
        pretrained: `none`, `imagenet` for the backbone's ImageNet weights, or a file of them.
        default_boxes: of each level the (w, h) of its anchors, relative to the input (0 to 1);
            the published ones if None.
        preprocessing: how a picture becomes the input; if None, as published, but for the mean
            and deviation of the pretrained weights.
        thresholds: from dense outputs to detections.
        changes: any other field of the config, such as `backbone="ghostnet"`, `neck="fpn"` or
            `background_prior=0.97`.

    Raises:
        InputError: an unknown name or field, or a value that cannot be.
    """
    if is_preset_file(name):
        written = read_preset(name)
        name, changes = written.model, {**written.fields, **changes}
    preset, names = _preset(name), checked_class_names(classes)
    source = os.fspath(pretrained)
    if size is not None:
        changes["size_hw"] = checked_size(size)
    if width is not None:
        if not width > 0:
            raise InputError(f"width {width} is not positive", where="width", fix="give e.g. 0.5")
        changes["width"] = float(width)
    if isinstance(changes.get("backbone_options"), Mapping):
        changes["backbone_options"] = tuple(changes["backbone_options"].items())
    family = family_of(name)
    unknown = changes.keys() - field_names(family.config)
    if unknown:
        raise InputError(f"unknown option {min(unknown)!r}", where=name)
    config = preset(num_classes=len(names), **changes)
    own, scaling = _starting_point(config, source)
    config = replace(config, **{key: own[key] for key in own.keys() - changes.keys()})
    if default_boxes is not None:
        config = family.with_anchors(config, as_box_sizes(default_boxes))
    published, own_thresholds = family.published(config)
    if preprocessing is None:
        preprocessing = published
        if scaling is not None:
            preprocessing = replace(published, mean=scaling.mean, std=scaling.std)
    detector = family.build(
        config,
        class_names=names,
        preprocessing=replace(preprocessing, size_hw=config.size_hw),
        thresholds=thresholds or own_thresholds,
    )
    backbone = cast(Any, detector.model).backbone
    detector.lineage = {
        "code_licence": CODE_LICENCE,
        "pretrained": load_pretrained_backbone(backbone, config.backbone, source),
    }
    return detector


def family_of(name: str) -> Family:
    """The family of detectors that a name of the zoo, or a preset file, belongs to."""
    if is_preset_file(name):
        name = read_preset(name).model
    return FAMILIES[_preset(name)(num_classes=1).family]


def preset_of(config: Config) -> Preset:
    """The preset that `build` makes `config` from: what `write_preset` writes."""
    published: Any = _preset(config.name)(num_classes=config.num_classes)
    needs = _needs_from_scratch(replace(published, backbone=config.backbone))
    plain = replace(published, **needs)
    fields = {
        field: getattr(config, field)
        for field in config.__dataclass_fields__
        if field not in NOT_IN_A_FILE and getattr(config, field) != getattr(plain, field)
    }
    return Preset(config.name, fields)


def _starting_point(config: Config, source: str) -> tuple[dict[str, Any], Preprocessing | None]:
    """What the weights at `source` need of the config, and how they want their input scaled."""
    if source == "none":
        return _needs_from_scratch(config), None
    if source.endswith(".safetensors"):
        with suppress(InputError):  # not ours: then a backbone's, as published
            manifest = load_manifest(source)
            theirs = manifest.model
            eps = theirs.get("backbone_norm_eps")
            own = {
                "backbone_norm": theirs.get("backbone_norm", "batch"),
                "backbone_norm_eps": theirs.get("norm_eps") if eps is None else eps,
            }
            if "reduced_tail" in field_names(type(config)):
                own["reduced_tail"] = theirs.get("reduced_tail", False)
            return own, manifest.preprocessing
    scaling = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    eps = PRETRAINED_NORM_EPS.get(config.backbone)
    needs: dict[str, Any] = {"backbone_norm_eps": eps}
    if config.backbone in PRETRAINED_NORM_EPS and eps is None:
        needs["backbone_norm"] = "none"  # published before there was BatchNorm
    if config.backbone in PRETRAINED_ACT:
        options = dict(config.backbone_options)
        options.setdefault("act", PRETRAINED_ACT[config.backbone])
        needs["backbone_options"] = tuple(options.items())
    return needs, scaling


def _needs_from_scratch(config: Config) -> dict[str, Any]:
    if "reduced_tail" in field_names(type(config)):
        return {"reduced_tail": config.backbone in REDUCIBLE_TAILS}
    return {}


def _preset(name: str) -> Callable[..., Any]:
    if name not in ZOO:
        near = get_close_matches(name, ZOO, n=3, cutoff=0.3) or sorted(ZOO)
        raise InputError(f"unknown model {name!r}", fix=f"did you mean {', '.join(near)}?")
    return ZOO[name]


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
