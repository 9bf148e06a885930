"""Caffe's `.caffemodel` files: layers with their blobs, read and written.

Only the fields that hold weights are declared (caffe.proto of BVLC/caffe); protobuf keeps the rest
apart as unknown fields.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CaffeLayer:
    """A layer that has weights.

    Attributes:
        name, kind: such as `conv0` and `Convolution`.
        blobs: its weights in Caffe's order: weight and bias; mean, variance and the factor that
            divides both (BatchNorm); factor and shift (Scale).
    """

    name: str
    kind: str
    blobs: tuple[Array, ...]


def load_caffemodel(path: str | os.PathLike[str]) -> list[CaffeLayer]:
    """The layers of a file that have weights, in the network's order.

    Raises:
        InputError: no such file, not a Caffe network, or one without weights.
    """
    if not Path(path).is_file():
        raise InputError("no such weights file", where=path, fix="check the path")
    network = _messages()["NetParameter"]()
    try:
        network.ParseFromString(Path(path).read_bytes())
    except Exception as error:  # protobuf raises kinds of its own for broken files
        raise InputError(
            "not a readable .caffemodel file, or truncated", where=path, fix="fetch it again"
        ) from error
    layers = []
    for layer in network.layer:
        if layer.blobs:
            blobs = tuple(_array(blob, layer.name, path) for blob in layer.blobs)
            layers.append(CaffeLayer(layer.name, layer.type, blobs))
    if not layers:
        raise InputError(
            "holds no layers with weights",
            where=path,
            fix="give a .caffemodel of Caffe 1 (upgrade older ones with upgrade_net_proto_binary)",
        )
    return layers


def save_caffemodel(layers: Iterable[CaffeLayer], path: str | os.PathLike[str]) -> None:
    """Write layers as a `.caffemodel`; whole or not at all."""
    network = _messages()["NetParameter"]()
    for layer in layers:
        added = network.layer.add(name=layer.name, type=layer.kind)
        for values in layer.blobs:
            blob = added.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(values.ravel().tolist())
    with write_atomically(path) as temporary:
        temporary.write_bytes(network.SerializeToString())


def _array(blob: Any, name: str, path: str | os.PathLike[str]) -> Array:
    shape = tuple(blob.shape.dim) or tuple(
        side for side in (blob.num, blob.channels, blob.height, blob.width) if side
    )
    values = np.asarray(blob.data or blob.double_data, dtype=np.float32)
    if min(shape, default=1) < 0 or values.size != math.prod(shape):
        raise InputError(
            f"layer {name!r} has {values.size} values for the shape {list(shape)}",
            where=path,
            fix="fetch the file again",
        )
    return values.reshape(shape)


@cache
def _messages() -> dict[str, Any]:
    """Message classes by name, built at run time: no generated code to keep."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="flyweight/caffe.proto", package="flyweight.caffe", syntax="proto2"
    )
    string, floats, doubles = field.TYPE_STRING, field.TYPE_FLOAT, field.TYPE_DOUBLE
    int32, int64 = field.TYPE_INT32, field.TYPE_INT64
    fields: dict[str, list[tuple[str, int, Any, bool]]] = {
        "BlobShape": [("dim", 1, int64, True)],
        "BlobProto": [
            ("num", 1, int32, False),
            ("channels", 2, int32, False),
            ("height", 3, int32, False),
            ("width", 4, int32, False),
            ("data", 5, floats, True),
            ("shape", 7, "BlobShape", False),
            ("double_data", 8, doubles, True),
        ],
        "LayerParameter": [
            ("name", 1, string, False),
            ("type", 2, string, False),
            ("blobs", 7, "BlobProto", True),
        ],
        "NetParameter": [("name", 1, string, False), ("layer", 100, "LayerParameter", True)],
    }
    for message, members in fields.items():
        declared = file.message_type.add(name=message)
        for name, number, kind, repeated in members:
            added = declared.field.add(
                name=name,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )
            if isinstance(kind, str):
                added.type, added.type_name = field.TYPE_MESSAGE, f".flyweight.caffe.{kind}"
            else:
                added.type = kind
                added.options.packed = repeated and kind != string
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"flyweight.caffe.{name}"))
        for name in fields
    }
