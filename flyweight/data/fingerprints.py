"""Fingerprints of image files: does it decode, how large is it, is it the same as another.

Same bytes: SHA-1 of the file. Near duplicates (saved again, scaled, brightened): the difference
hash (dHash) of a tiny grey version, whose bits say where brightness rises along a row, confirmed
by comparing the tiny versions themselves.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.image import image_size_hw, read_image

_THUMB = 24
_HASH_SIDE = 8
# Bits by which two hashes may differ, one less than the bands below: some band then agrees.
_MAX_BITS = 3
_BANDS = 4
# Mean absolute difference of the standardised tiny versions; 0 is equal, unrelated ones exceed 1.
_MAX_DIFFERENCE = 0.12
# A tiny version with less contrast than this (0..255) could be anything.
_MIN_CONTRAST = 4.0


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a look at an image file tells.

    Attributes:
        path: the file.
        error: why it cannot be read, else None; the rest is then empty.
        sha1: of the file's bytes, hexadecimal.
        size_hw: in pixels, upright.
        dhash: the difference hash, 64 bits.
        thumb: the tiny grey version, standardised, float32 ``[24 * 24]``; None without contrast.
    """

    path: Path
    error: str | None
    sha1: str = ""
    size_hw: tuple[int, int] = (0, 0)
    dhash: int = 0
    thumb: npt.NDArray[np.float32] | None = None


def fingerprint(path: Path) -> Fingerprint:
    """Reads and decodes the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Fingerprint(path, (error.strerror or "cannot be read").lower())
    try:
        # Every byte is still decoded: only the last step of JPEG runs at reduced size.
        image = read_image(data, min_size_hw=(_THUMB * 2, _THUMB * 2))
        size_hw = image_size_hw(path)
    except InputError as error:
        return Fingerprint(path, error.what)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    side = _HASH_SIDE
    tiny = cv2.resize(grey, (side + 1, side), interpolation=cv2.INTER_AREA)
    bits = np.packbits((tiny[:, 1:] > tiny[:, :-1]).ravel())
    thumb = cv2.resize(grey, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    contrast = float(thumb.std())
    standard = (thumb.ravel() - thumb.mean()) / contrast if contrast >= _MIN_CONTRAST else None
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return Fingerprint(path, None, digest, size_hw, int.from_bytes(bits.tobytes(), "big"), standard)


def fingerprints(paths: Iterable[Path]) -> list[Fingerprint]:
    """Those of many files, in their order, read in several threads."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(fingerprint, paths))


def near_duplicates(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs of indices whose images look alike though their bytes differ, the smaller first.

    Hashes that differ in at most three bits agree in one of four bands of 16 bits, so only images
    that share a band are compared, not all with all.
    """
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, one in enumerate(prints):
            if one.error is None and one.thumb is not None:
                buckets[one.dhash >> (16 * band) & 0xFFFF].append(index)
        for bucket in buckets.values():
            pairs.update(pair for pair in _candidates(bucket, prints) if _alike(pair, prints))
    return sorted(pairs)


def _candidates(bucket: list[int], prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    # Large buckets (a camera that never moves) are compared with neighbours in hash order only.
    reach = 64
    ordered = sorted(bucket, key=lambda index: prints[index].dhash)
    for place, first in enumerate(ordered):
        for second in ordered[place + 1 : place + 1 + reach]:
            yield min(first, second), max(first, second)


def _alike(pair: tuple[int, int], prints: Sequence[Fingerprint]) -> bool:
    one, other = prints[pair[0]], prints[pair[1]]
    if one.sha1 == other.sha1 or (one.dhash ^ other.dhash).bit_count() > _MAX_BITS:
        return False
    return (
        one.thumb is not None
        and other.thumb is not None
        and float(np.abs(one.thumb - other.thumb).mean()) <= _MAX_DIFFERENCE
    )
