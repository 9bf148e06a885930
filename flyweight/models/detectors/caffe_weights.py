"""Caffe's SSD networks (`.caffemodel`) into Flyweight's detectors."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from flyweight.core.errors import InputError
from flyweight.models.conversion.by_order import convert_state_dict
from flyweight.models.conversion.caffe import CaffeLayer, load_caffemodel
from flyweight.models.detectors.detector import Detector


def load_caffe_weights(
    detector: Detector, path: str | os.PathLike[str], *, bgr: bool = False
) -> None:
    """Load a Caffe SSD, such as MobileNet-SSD, into the detector of the same architecture.

    A file with BatchNorm and Scale layers needs a detector with norms, the folded ("deploy") one
    a detector whose config says `folded`.

    Args:
        detector: `mobilenet_ssd300` or `ssd300_vgg16` with the classes of the file.
        path: of the file.
        bgr: the network was trained on pictures in OpenCV's order of channels; the first
            convolution is turned round, so that it takes RGB like every Flyweight network.

    Raises:
        InputError: the file cannot be read, or naming the first tensors that do not fit.
    """
    state = caffe_state_dict(load_caffemodel(path), where=path)
    weights = convert_state_dict(state, detector.model, source_name=os.fspath(path))
    if bgr:
        first = next(name for name, tensor in weights.items() if tensor.ndim == 4)
        weights[first] = weights[first].flip(1).contiguous()
    detector.model.load_state_dict(weights)


def caffe_state_dict(
    layers: list[CaffeLayer], *, where: str | os.PathLike[str] = "caffemodel"
) -> dict[str, Tensor]:
    """Caffe's layers as named tensors, in the order in which our SSD defines its parts.

    BatchNorm and the Scale after it become one norm. The network before the heads comes first, then
    the L2 norm, the extra levels, all class predictors and all box predictors.
    """
    trunk: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {"norm": {}, "extra": {}, "conf": {}, "loc": {}}
    in_extras = False
    for layer in layers:
        blobs = [torch.from_numpy(blob.copy()) for blob in layer.blobs]
        in_extras |= layer.name in _FIRST_EXTRAS
        target = parts["extra"] if in_extras else trunk
        if layer.name.endswith("_mbox_conf"):
            target = parts["conf"]
        elif layer.name.endswith("_mbox_loc"):
            target = parts["loc"]
        if layer.kind == "Convolution":
            names = ("weight", "bias")[: len(blobs)]
            shapes: tuple[Tensor, ...] = (blobs[0], *(blob.flatten() for blob in blobs[1:]))
            for name, blob in zip(names, shapes, strict=True):
                target[f"{layer.name}.{name}"] = blob
        elif layer.kind == "Normalize":
            parts["norm"][f"{layer.name}.scale"] = blobs[0].flatten()
        elif layer.kind == "BatchNorm":
            factor = blobs[2].flatten()[0]
            factor = 1 / factor if factor else factor
            name = _norm_name(layer.name)
            target[f"{name}.running_mean"] = blobs[0].flatten() * factor
            target[f"{name}.running_var"] = blobs[1].flatten() * factor
        elif layer.kind == "Scale":
            name = _norm_name(layer.name)
            target[f"{name}.weight"] = blobs[0].flatten()
            target[f"{name}.bias"] = blobs[1].flatten()
        else:
            raise InputError(
                f"layer {layer.name!r} of kind {layer.kind} has no place in an SSD",
                where=where,
                fix="give the .caffemodel of MobileNet-SSD or SSD300",
            )
    return trunk | parts["norm"] | parts["extra"] | parts["conf"] | parts["loc"]


# MobileNet-SSD's and SSD300-VGG16's first layers behind the backbone.
_FIRST_EXTRAS = ("conv14_1", "conv6_1")


def _norm_name(layer: str) -> str:
    """One name for a BatchNorm and its Scale: `conv0/bn` and `conv0/scale` are `conv0/norm`."""
    return layer.rpartition("/")[0] + "/norm"
