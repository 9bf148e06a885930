"""What a .tflite file says about itself: the manifest, and a digest that proves the file whole.

A .tflite file is a flatbuffer (identifier `TFL3`) whose metadata names buffers of bytes. Ours has
two: the manifest's JSON and a SHA-256 of the whole file. The runtime would run a file of which some
weights were changed on its way, so the digest is compared before the runtime sees a byte. It proves
that nothing was damaged, not who wrote the file: a stranger can make one with a digest that holds.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.core.manifest import METADATA_KEY, Manifest
from flyweight.runtime.litert_graph import check_graph
from flyweight.runtime.session import cannot_open, checked_manifest

try:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import (
        convert_object_to_bytearray,
        read_model_from_bytearray,
    )
except ImportError as error:
    raise InputError(
        "LiteRT is not installed", fix="pip install ai-edge-litert, or open an .onnx file"
    ) from error

IDENTIFIER = b"TFL3"
DIGEST_KEY = "flyweight.sha256"
DIGEST_BYTES = 32
OURS = (METADATA_KEY, DIGEST_KEY)
# What reading tables of a flatbuffer raises where an offset leads outside or to something else.
BROKEN = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError)


def unpack(model: bytes) -> Any:
    """The tables of a flatbuffer as objects that can be changed."""
    content = read_model_from_bytearray(model)
    for buffer in content.buffers:
        if buffer.data is not None:
            # As arrays they are written whole; as bytes one by one.
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return content


def pack(content: Any) -> bytes:
    """The flatbuffer of what `unpack` gives."""
    return bytes(convert_object_to_bytearray(content))


def with_manifest(model: bytes, manifest: Manifest) -> bytes:
    """The file of a flatbuffer, whatever manifest it had before."""
    content = unpack(model)
    kept = [each for each in content.metadata or [] if _text(each.name) not in OURS]
    # Stands for the digest until there is something to digest.
    marker = os.urandom(DIGEST_BYTES)
    added = [(METADATA_KEY, manifest.to_json().encode()), (DIGEST_KEY, marker)]
    for name, data in added:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name, entry.buffer, buffer.data = (
            name,
            len(content.buffers),
            np.frombuffer(data, np.uint8),
        )
        content.buffers.append(buffer)
        kept.append(entry)
    content.metadata = kept
    packed = pack(content)
    return packed.replace(marker, _digest(packed, marker))


def read_manifest(path: Path, model: bytes) -> Manifest:
    """The manifest inside the bytes of `path`.

    Raises:
        InputError: it is no .tflite file, not one of ours, or not whole.
    """
    if model[4:8] != IDENTIFIER:
        raise cannot_open(path, "LiteRT")
    try:
        entries = _metadata(schema.Model.GetRootAs(model, 0))
        text = entries[METADATA_KEY].decode() if METADATA_KEY in entries else None
    except BROKEN as error:
        raise cannot_open(path, "LiteRT") from error
    manifest = checked_manifest(path, text)
    digest = entries.get(DIGEST_KEY, b"")
    if len(digest) != DIGEST_BYTES or _digest(model, digest) != digest:
        raise InputError(
            "the file is damaged: it is not what its SHA-256 was taken of",
            where=path,
            fix="copy it again, or export it again",
        )
    try:
        check_graph(path, unpack(model), schema)
    except BROKEN as error:
        raise cannot_open(path, "LiteRT") from error
    return manifest


def _metadata(model: Any) -> dict[str, bytes]:
    """Our entries of a flatbuffer's metadata."""
    found: dict[str, bytes] = {}
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if _text(entry.Name()) in OURS:
            found[_text(entry.Name())] = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return found


def _digest(model: bytes, hole: bytes) -> bytes:
    """Of all bytes, zeros in place of the digest's own."""
    return hashlib.sha256(model.replace(hole, bytes(DIGEST_BYTES))).digest()


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else name or ""
