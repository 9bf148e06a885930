"""A detector as ncnn's .param and .bin, converted by pnnx, the manifest beside them as .json.

ncnn has neither uint8 inputs nor images with their channels last: the graph takes floats of 0 to
255 by channel, which `ncnn::Mat::from_pixels` makes of a picture. Normalisation and decoding are in
the graph, its outputs are boxes and scores as in every exported file.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.manifest import Manifest
from flyweight.export.onnx import exportable
from flyweight.models.detectors import Detector
from flyweight.models.layers import ChannelShuffle
from flyweight.models.layers.l2_norm import EPS, L2Norm
from flyweight.runtime.ncnn_graph import NcnnLayer, read_graph, write_graph
from flyweight.runtime.ncnn_session import (
    DIGESTS_KEY,
    INPUT,
    MANIFEST_SUFFIX,
    WEIGHTS_SUFFIX,
    checked_ends,
    digests_of,
)
from flyweight.runtime.ncnn_shapes import RULES
from flyweight.runtime.ncnn_weights import NcnnModel, Weights, read_weights, write_weights
from flyweight.runtime.session import DENSE_OUTPUTS

try:
    import pnnx
except ImportError as error:
    raise InputError(
        "pnnx, the converter to ncnn, is not installed", fix="pip install pnnx ncnn"
    ) from error

# N images, H x W pixels of the input

CONVERTER_SECONDS = 900
# What pnnx calls the blobs at the ends.
_ENDS = {"in0": INPUT, **{f"out{index}": name for index, name in enumerate(DENSE_OUTPUTS)}}
_UNWANTED = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")


def to_ncnn(detector: Detector) -> NcnnModel:
    """The graph of `detector` with dense outputs for one image, and its weights in fp32.

    Raises:
        InputError: ncnn has no layer for something in the detector.
    """
    if detector.config.family == "faster_rcnn":
        raise InputError(
            "ncnn cannot run a two-stage detector: choosing proposals takes sorting, gathering and "
            "NMS inside the graph, and pooling at boxes that are found there, and it has no layers "
            "for them",
            where="ncnn",
            fix="export it to onnx or openvino, or train a single-stage detector",
        )
    size_hw = detector.preprocessing.size_hw
    with tempfile.TemporaryDirectory(prefix="flyweight-ncnn-") as folder:
        traced = Path(folder) / "model.pt"
        try:
            with quiet(), torch.no_grad():
                example = torch.zeros(1, 3, *size_hw)
                torch.jit.trace(_Planes(detector), example, check_trace=False).save(str(traced))
        except RuntimeError as error:
            raise InputError(f"torch could not trace the detector: {error}") from error
        graph, weights = _convert(traced, size_hw)
    try:
        layers = _named(read_graph(graph), size_hw)
        model = NcnnModel(layers, read_weights(layers, np.frombuffer(weights, np.uint8)))
        checked_ends(model, len(detector.class_names))
    except ValueError as error:
        raise InputError(f"pnnx made a graph that is not the detector's ({error})") from error
    return model


def save_ncnn(
    model: NcnnModel,
    path: str | os.PathLike[str],
    *,
    manifest: Manifest,
    precision: str = "fp32",
) -> None:
    """Write NAME.param, NAME.bin and NAME.json.

    Each file is written whole or not at all, the .param last. The .json has the digests of the
    other two, so that files of two exports, or half an export, are never run together.

    Args:
        model: of `to_ncnn`, or `flyweight.export.ncnn_int8.quantise_ncnn`; it stays as it is.
        path: of the .param. Call it NAME.ncnn.param: OpenVINO's weights are NAME.bin.
        manifest: what goes into the .json.
        precision: `fp32`, `fp16` (weights of convolutions stored so), or `int8` for a quantised
            model.
    """
    quantised = any(array.dtype == np.int8 for arrays in model.weights for array in arrays)
    if precision not in ("fp32", "fp16", "int8") or quantised != (precision == "int8"):
        raise InputError(
            f"ncnn files of this model cannot be in {precision}",
            where="precision",
            fix="give fp32 or fp16, or int8 with a quantised model",
        )
    target = Path(path)
    weights = model.weights if precision != "fp16" else _halved(model)
    graph, content = write_graph(model.layers).encode(), write_weights(model.layers, weights)
    how = {
        **manifest.lineage.get("export", {}),
        "precision": precision,
        DIGESTS_KEY: digests_of(graph, content),
    }
    text = replace(manifest, lineage={**manifest.lineage, "export": how}).to_json()
    parts = ((WEIGHTS_SUFFIX, content), (MANIFEST_SUFFIX, text.encode()), (target.suffix, graph))
    for suffix, part in parts:
        with write_atomically(target.with_suffix(suffix)) as temporary:
            temporary.write_bytes(part)


class _Planes(nn.Module):
    """The folded detector of floats `[N, 3, H, W]`, 0 to 255, of layers that pnnx knows."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = exportable(detector).eval()
        for parent in list(self.detector.modules()):
            for name, child in parent.named_children():
                if isinstance(child, L2Norm):
                    setattr(parent, name, _PlainL2Norm(child.scale))
                elif isinstance(child, ChannelShuffle):
                    setattr(parent, name, _PlainShuffle(child.groups))

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        detector: Any = self.detector
        images = planes * detector.normalise._scale + detector.normalise._shift
        boxes, scores = detector.postprocess.decode(detector.model(images))
        return boxes, scores


class _PlainL2Norm(nn.Module):
    """`L2Norm` with a clamp that pnnx knows."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().view(1, -1, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return self.scale * (x / x.norm(dim=1, keepdim=True).clamp(min=EPS))


class _PlainShuffle(nn.Module):
    """`ChannelShuffle` in the operations that pnnx tells it by."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        count, channels, height, width = (int(side) for side in x.shape)
        grouped = x.view(count, self.groups, channels // self.groups, height, width)
        return grouped.transpose(1, 2).reshape(count, channels, height, width)


def _convert(traced: Path, size_hw: tuple[int, int]) -> tuple[str, bytes]:
    """The .param and the .bin that pnnx makes of a traced module."""
    height, width = size_hw
    graph, weights = (traced.with_suffix(suffix) for suffix in (".param", ".bin"))
    command = [
        pnnx.EXEC_PATH,
        str(traced),
        f"inputshape=[1,3,{height},{width}]",
        "fp16=0",
        f"ncnnparam={graph}",
        f"ncnnbin={weights}",
        *(f"{kind}={os.devnull}" for kind in _UNWANTED),
    ]
    try:
        done = subprocess.run(
            command, cwd=traced.parent, capture_output=True, timeout=CONVERTER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"pnnx could not be run: {error}") from error
    if done.returncode or not graph.is_file() or not weights.is_file():
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise InputError(f"pnnx could not convert the detector (exit {done.returncode}): {said[0]}")
    return graph.read_text(), weights.read_bytes()


def _named(layers: Sequence[NcnnLayer], size_hw: tuple[int, int]) -> tuple[NcnnLayer, ...]:
    """`layers` with the contract's names at their ends and the size of the input."""
    if unknown := sorted({layer.kind for layer in layers} - RULES.keys()):
        raise InputError(
            f"ncnn has no layer for {', '.join(unknown)}",
            where="ncnn",
            fix="export it to onnx or openvino",
        )
    height, width = size_hw
    picture = {0: str(width), 1: str(height), 2: "3"}
    return tuple(
        replace(
            layer,
            inputs=tuple(_ENDS.get(name, name) for name in layer.inputs),
            outputs=tuple(_ENDS.get(name, name) for name in layer.outputs),
            options=picture if layer.kind == "Input" else layer.options,
        )
        for layer in layers
    )


def _halved(model: NcnnModel) -> list[Weights]:
    """The weights with those of convolutions in 16 bits; biases and anchors keep 32."""
    return [
        (arrays[0].astype("<f2"), *arrays[1:]) if layer.kind.startswith("Convolution") else arrays
        for layer, arrays in zip(model.layers, model.weights, strict=True)
    ]
