"""The long lists of a JSON file in parts: as much memory as a part takes, whatever the file."""

from __future__ import annotations

import codecs
import gc
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

PART_BYTES = 8 << 20
# most values besides the long lists fit into so many bytes
VALUE_BYTES = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SPACE = re.compile(rb"[ \t\n\r]*")
# where a list of objects can be cut, unless it is a list within one of them, or text
BETWEEN_OBJECTS = re.compile(rb"\}[ \t\n\r]*(?=,[ \t\n\r]*\{)")
# how many such places are tried before more is read
ATTEMPTS = 8

_DECODER = json.JSONDecoder()


class Bytes(Protocol):
    """Bytes, or a file that is read where it is looked at."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> bytes: ...


class FileBytes:
    """An open file as its bytes. A file mapped into memory would count as memory of the process,
    all that was ever looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: slice, /) -> bytes:
        start, stop, _ = index.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(stop - start, 0))


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection meanwhile: it would go through all parsed objects again and again
    while they only grow in number."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def split_json(data: Bytes, names: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    """The lists `names` of a JSON object in UTF-8, in parts and in the order of the file.

    An empty list has one empty part. Other members are passed over, so is one of `names` that is
    no list.

    Raises:
        ValueError: it is not one JSON object, is broken somewhere, or has one of the lists twice.
    """
    place = len(BYTE_ORDER_MARK) if data[:3] == BYTE_ORDER_MARK else 0
    place = _past(data, place, b"{")
    seen: set[str] = set()
    more = data[place : place + 1] != b"}"
    while more:
        name, place = read_value(data, place)
        if not isinstance(name, str):
            raise ValueError(f"a member has no name but {name!r}")
        place = _past(data, place, b":")
        if name in names and data[place : place + 1] == b"[":
            if name in seen:
                raise ValueError(f"the list {name!r} occurs twice")
            seen.add(name)
            place += 1
            ended = False
            while not ended:
                entries, place, ended = _part(data, place)
                yield name, entries
            place = _skip(data, place)
        else:
            _, place = read_value(data, place)
        more = data[place : place + 1] == b","
        if more:
            place = _past(data, place, b",")
    place = _past(data, place, b"}")
    if place < len(data):
        raise ValueError("something follows the end")


def _part(data: Bytes, place: int) -> tuple[list[Any], int, bool]:
    """Entries of a list from `place` on, the place after them, and whether the list ends there."""
    size = PART_BYTES
    while True:
        window = data[place : place + size]
        for cut in _cuts(window):
            text = f"[{_text(window[:cut])}]"
            try:
                entries, end = _DECODER.raw_decode(text)
            except json.JSONDecodeError:
                continue  # within an entry
            if end == len(text):
                return entries, _past(data, place + cut, b","), False
            return entries, place + _length(text[1:end]), True
        # The list ends in the window, or an entry is longer than that.
        text = f"[{_text(window)}"
        try:
            entries, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError:
            if place + size >= len(data):
                raise
            size *= 4
        else:
            return entries, place + _length(text[1:end]), True


def _cuts(window: bytes) -> list[int]:
    """Places between two objects, the last ones, from the last on."""
    tail = max(0, len(window) - VALUE_BYTES)
    found = [match.end() for match in BETWEEN_OBJECTS.finditer(window, tail)]
    if not found:
        found = [match.end() for match in BETWEEN_OBJECTS.finditer(window)]
    return found[: -ATTEMPTS - 1 : -1]


def read_value(data: Bytes, place: int) -> tuple[Any, int]:
    """The value that starts at `place`, and the place after it and the space that follows.

    Raises:
        ValueError: it is broken.
    """
    size = VALUE_BYTES
    while True:
        text = _text(data[place : place + size])
        try:
            value, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError:
            if place + size >= len(data):
                raise
            size *= 8
        else:
            return value, _skip(data, place + _length(text[:end]))


def _text(part: bytes) -> str:
    """UTF-8 decoded, without a character that is cut off at the end."""
    return codecs.getincrementaldecoder("utf-8")().decode(part)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def _past(data: Bytes, place: int, mark: bytes) -> int:
    """The place after space, `mark` and space."""
    place = _skip(data, place)
    found = data[place : place + 1]
    if found != mark:
        raise ValueError(f"{found!r} in place of {mark!r} at byte {place}")
    return _skip(data, place + 1)


def _skip(data: Bytes, place: int) -> int:
    """The place after any space."""
    while True:
        step = data[place : place + VALUE_BYTES]
        match = SPACE.match(step)
        length = match.end() if match else 0
        if length < len(step) or not step:
            return place + length
        place += length
