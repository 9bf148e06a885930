"""Decoded pictures kept for the next epoch, in memory or on disk: the same bytes, read sooner."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.files import writing_error
from flyweight.core.image import DECODERS, jpeg_reduction, read_first_bytes, read_image
from flyweight.core.image_header import read_header

Image = npt.NDArray[np.uint8]
Source = str | os.PathLike[str]

# Sizes of files that are remembered, first come, about 150 bytes each: of others the header is
# read again each time.
KNOWN_SIZES = 100_000
# Part of each key on disk: another decoder, or another layout, must not find old entries.
FORMAT = f"1 {DECODERS}"


class Version(NamedTuple):
    """What tells a file from what it was before: time of change and size in bytes."""

    mtime_ns: int
    size: int


class Key(NamedTuple):
    """One decoded picture: which file, which version of it, decoded at which 1/`reduction`."""

    path: str
    version: Version
    reduction: int


class Store(Protocol):
    """Where decoded pictures (RGB uint8 `[H, W, 3]`) are kept; it may refuse to keep one."""

    def get(self, key: Key) -> Image | None: ...

    def put(self, key: Key, image: Image) -> None: ...


class CachedReader:
    """Reads pictures as `flyweight.core.image.read_image` does, and decodes each but once.

    The reader decodes a JPEG at 1, 1/2, 1/4 or 1/8, as asked for, and each is an entry of its own:
    what comes back is what the reader would have decoded, to the byte. Entries of a file that has
    changed since (size or time of change) are not found any more.

    Arrays are read-only: the same one is handed out again.

    Args:
        store: `MemoryStore` or `DiskStore`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sizes: dict[str, tuple[Version, tuple[int, int] | None]] = {}

    def __call__(self, source: Source, /, *, min_size_hw: tuple[int, int] | None = None) -> Image:
        """Arguments, result and errors are those of `read_image`.

        Raises:
            InputError: it cannot be read, or the store's disk cannot be written.
        """
        path = os.fspath(source)
        version = _version(path)
        key = None if version is None else self._key(path, version, min_size_hw)
        if key is None:
            # The reader says what is wrong with it.
            return read_image(source, min_size_hw=min_size_hw)
        image = self.store.get(key)
        if image is None:
            image = read_image(source, min_size_hw=min_size_hw)
            image.flags.writeable = False
            if _version(path) == version:
                self.store.put(key, image)
        return image

    def _key(self, path: str, version: Version, min_size_hw: tuple[int, int] | None) -> Key | None:
        if min_size_hw is None:
            return Key(path, version, 1)
        known, size_hw = self._sizes.get(path, (None, None))
        if known != version:
            try:
                header = read_header(read_first_bytes(path))
            except (OSError, ValueError, InputError):
                return None
            # Only JPEGs are decoded at a reduced scale.
            size_hw = header.size_hw if header and header.kind == "jpeg" else None
            if len(self._sizes) < KNOWN_SIZES:
                self._sizes[path] = version, size_hw
        return Key(path, version, 1 if size_hw is None else jpeg_reduction(size_hw, min_size_hw))


def _version(path: str) -> Version | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Version(status.st_mtime_ns, status.st_size)


class MemoryStore:
    """Pictures in this process's memory: who comes first stays.

    An epoch reads every picture once, in a new order: throwing out the oldest for the newest would
    keep nothing until its turn comes, keeping the first gives their share of hits. A forked or
    spawned process has a store of its own, so `max_bytes` counts once for each.

    Args:
        max_bytes: of all pixels together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._images: dict[Key, Image] = {}

    def get(self, key: Key) -> Image | None:
        return self._images.get(key)

    def put(self, key: Key, image: Image) -> None:
        if self.used_bytes + image.nbytes <= self.max_bytes:
            self._images[key] = image
            self.used_bytes += image.nbytes


class DiskStore:
    """Pictures as files of raw pixels in a folder that all processes, and later runs, share.

    On a disk in memory (`/dev/shm`) it is a cache in memory that workers share. The folder never
    grows above `max_bytes`; who comes first stays. Entries of changed files stay, too, until the
    folder is deleted, which may be done at any time between runs.

    Args:
        folder: is made if need be.
        max_bytes: of all files together.

    Raises:
        InputError: the folder cannot be written to.
    """

    HEADER = 8

    def __init__(self, folder: Source, *, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise writing_error(self.folder, error) from error

    def get(self, key: Key) -> Image | None:
        try:
            data = np.fromfile(self._file(key), dtype=np.uint8)
        except OSError:
            return None
        if len(data) < self.HEADER:
            return None
        height, width = data[: self.HEADER].view("<u4").tolist()
        if len(data) != self.HEADER + height * width * 3:
            return None
        image = data[self.HEADER :].reshape(height, width, 3)
        image.flags.writeable = False
        return image

    def put(self, key: Key, image: Image) -> None:
        """Write the picture, if there is room.

        Raises:
            InputError: the disk is full or the folder cannot be written to.
        """
        target = self._file(key)
        try:
            if not self._reserve(target, self.HEADER + image.nbytes):
                return
            target.parent.mkdir(exist_ok=True)
            self._write(target, image)
        except OSError as error:
            raise writing_error(self.folder, error) from error

    def _write(self, target: Path, image: Image) -> None:
        # Renamed but not synchronised, unlike `write_atomically`: waiting for the disk at every
        # picture costs more than decoding it, and a file of another length is no entry.
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        try:
            with open(handle, "wb") as stream:
                stream.write(np.array(image.shape[:2], dtype="<u4").tobytes())
                stream.write(image.tobytes())
            os.replace(name, target)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _file(self, key: Key) -> Path:
        text = f"{FORMAT} {os.path.abspath(key.path)} {tuple(key.version)} {key.reduction}"
        name = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.raw"

    def _reserve(self, target: Path, size: int) -> bool:
        """Whether `size` bytes may still be written; they count from now on."""
        with self._locked() as ledger:
            if target.exists():
                return False
            ledger.seek(0)
            text = ledger.read()
            used = int(text) if text.isdigit() else self._count()
            if used + size > self.max_bytes:
                return False
            ledger.seek(0)
            ledger.write(b"%d" % (used + size))
            return True

    def _count(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("*/*") if file.is_file())

    @contextmanager
    def _locked(self) -> Iterator[_Ledger]:
        """The file that says how many bytes are used, for this process alone."""
        descriptor = os.open(self.folder / "used_bytes", os.O_RDWR | os.O_CREAT, 0o644)
        with open(descriptor, "r+b", buffering=0) as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            yield ledger


class _Ledger(Protocol):
    def seek(self, offset: int, /) -> int: ...

    def read(self) -> bytes: ...

    def write(self, data: bytes, /) -> int | None: ...


def parse_bytes(text: str) -> int:
    """A size such as `2GB`, `500 MB` or `100000` in bytes; thousands, not 1024s.

    Raises:
        InputError: it is none.
    """
    units = {"": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
    number = text.strip().lower().rstrip("kmgtb ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise InputError(f"'{text}' is no size", fix="write it as 500MB or 2GB") from error
