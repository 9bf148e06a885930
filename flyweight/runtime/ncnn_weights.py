"""ncnn's .bin: the weights of each layer, one after the other, in the order of the .param.

Which layer has how many numbers only the .param says. The large ones begin with four bytes that say
how they are stored; those of ncnn's source (`src/modelbin.cpp`) that are written here are floats,
half floats and int8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.runtime.ncnn_graph import NcnnLayer

# A layer's arrays, flat, in the order of the file.
Weights = tuple[npt.NDArray[Any], ...]

TAGS: dict[np.dtype[Any], int] = {
    np.dtype("<f4"): 0,
    np.dtype("<f2"): 0x01306B47,
    np.dtype("i1"): 0x000D4B38,
}
_DTYPES = {tag: dtype for dtype, tag in TAGS.items()}
_ALIGNMENT = 4
# `int8_scale_term` above this has the scale of the output too, which then is int8 (`ncnn_int8`).
REQUANTISED = 100

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")


@dataclass(frozen=True)
class Stored:
    """An array of a layer: how many numbers, and whether four bytes tell their type."""

    count: int
    tagged: bool = False


@dataclass(frozen=True)
class NcnnModel:
    """A graph with the weights of each of its layers."""

    layers: tuple[NcnnLayer, ...]
    weights: tuple[Weights, ...]


def stored_arrays(layer: NcnnLayer) -> list[Stored]:
    """What the .bin holds of a layer; ValueError where its options contradict each other."""
    if layer.kind in CONVOLUTIONS:
        return _of_convolution(layer)
    if layer.kind == "GroupNorm" and layer.integer(3, 1):
        return [Stored(layer.integer(1))] * 2
    if layer.kind == "MemoryData":
        sides = [layer.integer(key) for key in (0, 1, 11, 2)]
        return [Stored(int(np.prod([side for side in sides if side], dtype=object)))]
    return []


def _of_convolution(layer: NcnnLayer) -> list[Stored]:
    outputs = layer.integer(0)
    arrays = [Stored(layer.integer(6), tagged=True)]
    if layer.integer(5):
        arrays.append(Stored(outputs))
    if term := layer.integer(8):
        scales = layer.integer(7, 1) if layer.kind == "ConvolutionDepthWise" else outputs
        arrays += [Stored(scales), Stored(1)]
        arrays += [Stored(1)] if term > REQUANTISED else []
    return arrays


def read_weights(
    layers: Iterable[NcnnLayer], content: npt.NDArray[np.uint8]
) -> tuple[Weights, ...]:
    """The arrays of each layer, views of the bytes of a .bin.

    Raises:
        ValueError: there are fewer or more bytes than the layers have weights.
    """
    at = 0
    found = []
    for layer in layers:
        arrays = []
        for stored in stored_arrays(layer):
            array, at = _read_array(stored, content, at)
            arrays.append(array)
        found.append(tuple(arrays))
    if at != len(content):
        raise ValueError(f"the .bin has {len(content)} bytes, the layers take {at}")
    return tuple(found)


def write_weights(layers: Sequence[NcnnLayer], weights: Sequence[Weights]) -> bytes:
    """The bytes of a .bin; `read_weights` reads them back."""
    parts = []
    for layer, arrays in zip(layers, weights, strict=True):
        for stored, array in zip(stored_arrays(layer), arrays, strict=True):
            if stored.count != array.size:
                raise ValueError(f"{layer.name} has {array.size} weights, not {stored.count}")
            if stored.tagged:
                parts.append(TAGS[array.dtype].to_bytes(4, "little"))
            raw = array.tobytes()
            parts.append(raw + bytes(-len(raw) % _ALIGNMENT))
    return b"".join(parts)


def _read_array(
    stored: Stored, content: npt.NDArray[np.uint8], at: int
) -> tuple[npt.NDArray[Any], int]:
    """The array that begins at byte `at`, and where the next one does."""
    dtype: np.dtype[Any] = np.dtype("<f4")
    if stored.tagged:
        tag = int.from_bytes(content[at : at + 4].tobytes(), "little")
        if tag not in _DTYPES:
            raise ValueError(f"weights of an unknown type {tag:#x}")
        dtype, at = _DTYPES[tag], at + 4
    length = stored.count * dtype.itemsize
    end = at + length + -length % _ALIGNMENT
    if stored.count < 1 or end > len(content):
        raise ValueError(f"the .bin is cut: {len(content)} bytes, {end} wanted")
    return content[at : at + length].view(dtype), end
