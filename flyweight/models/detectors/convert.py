"""Others' weight files into a Flyweight detector: torchvision, Darknet, Caffe."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flyweight.core.errors import InputError
from flyweight.data.class_names import published_class_names
from flyweight.models.conversion.by_order import paired_shapes
from flyweight.models.conversion.caffe import load_caffemodel
from flyweight.models.detectors.caffe_weights import caffe_state_dict, load_caffe_weights
from flyweight.models.detectors.darknet_weights import count_classes, load_darknet_weights
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.torchvision_weights import (
    NO_EPSILON,
    in_definition_order,
    in_our_order,
    load_torchvision_weights,
)
from flyweight.models.detectors.zoo import build, family_of
from flyweight.models.pretrained import file_lineage, read_tensors


def convert_weights(
    path: str | os.PathLike[str],
    to: str,
    *,
    classes: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    bgr: bool = False,
    **changes: Any,
) -> Detector:
    """A detector of the zoo with the weights of another project's file.

    `.weights` are Darknet's, `.caffemodel` Caffe's; every other file is a state dict of the same
    network in torchvision, opened with torch's restricted reader.

    Args:
        path: of the file.
        to: the zoo's name of the same architecture.
        classes: names in the order of the file; None for those of VOC or COCO where their number
            agrees, else numbers.
        size: of the input, pixels; the preset's if None.
        bgr: a Caffe network that was trained on pictures with blue first.
        changes: fields of the config.

    Raises:
        InputError: the file cannot be read, or naming the first tensors that do not fit.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError("no such weights file", where=path, fix="check the path")
    options = {"size": size} | changes
    if source.suffix == ".weights":
        probe = build(to, classes=classes or ["object"], **options)
        detector = _with_classes(probe, to, classes, count_classes(probe, source), options)
        load_darknet_weights(detector, source)
    elif source.suffix == ".caffemodel":
        layers = load_caffemodel(source)
        options["folded"] = not any(layer.kind == "BatchNorm" for layer in layers)
        state = caffe_state_dict(layers, where=source)
        detector = _of_state(state, to, classes, options)
        load_caffe_weights(detector, source, bgr=bgr)
    else:
        tensors, header = read_tensors(source)
        if header:
            raise InputError(
                "this is a Flyweight checkpoint already", where=path, fix="use it as it is"
            )
        if any(digits in source.name for digits in NO_EPSILON):
            options.setdefault("backbone_norm_eps", 0.0)
        ordered = in_definition_order(tensors, to)
        detector = _of_state(in_our_order(ordered), to, classes, options)
        load_torchvision_weights(ordered, detector, source_name=os.fspath(path))
    detector.lineage["pretrained"] = file_lineage("file", source, licence="unknown")
    return detector.eval()


def _of_state(
    state: dict[str, Tensor], to: str, classes: Sequence[str] | None, options: dict[str, Any]
) -> Detector:
    """An untrained detector with as many classes as the tensors have."""
    if classes is not None:
        return build(to, classes=classes, **options)
    with torch.device("meta"):
        probe = build(to, classes=["object"], **options)
    return _with_classes(probe, to, None, _classes_in(state, probe, to), options)


def _with_classes(
    probe: Detector,
    to: str,
    classes: Sequence[str] | None,
    count: int | None,
    options: dict[str, Any],
) -> Detector:
    # Without a count the file is of another network: the loader says what does not fit.
    if classes is not None or (count is None and next(probe.parameters()).device.type != "meta"):
        return probe
    return build(to, classes=published_class_names(count or 1), **options)


def _classes_in(state: dict[str, Tensor], probe: Detector, to: str) -> int | None:
    """How many classes another code's tensors have, by the shapes of those that hold classes.

    Args:
        probe: our detector for one class.
    """
    for rows in family_of(to).class_rows:
        for name, theirs, ours in paired_shapes(state, probe.model):
            if not re.search(rows.pattern, f"model.{name}") or theirs is None:
                continue
            predictors = ours[0] // ((rows.shared + 1) * rows.per_class)
            columns, rest = divmod(theirs[0], predictors * rows.per_class)
            if rest == 0 and columns > rows.shared:
                return columns - rows.shared
    return None
