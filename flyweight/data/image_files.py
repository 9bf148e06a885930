"""Finding the image files of a data set, and placing them into a new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from flyweight.core.errors import InputError
from flyweight.core.files import scratch_folder, writing_error
from flyweight.core.image import IMAGE_SUFFIXES, is_image_file

_SUFFIXES = frozenset(suffix.lower() for suffix in IMAGE_SUFFIXES)


def is_image_name(name: str) -> bool:
    """Whether the file name ends like an image that Flyweight reads."""
    return os.path.splitext(name)[1].lower() in _SUFFIXES


class ImageListing:
    """The image names of folders, each folder read once.

    Finding 100,000 images costs a few directory reads instead of 100,000 file look-ups, which on
    a network disk is the difference between a second and minutes.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._stems: dict[str, dict[str, str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """File names (images or not) of the folder; empty when there is no such folder."""
        known = self._names.get(folder)
        if known is None:
            try:
                known = frozenset(os.listdir(folder))
            except (OSError, ValueError):  # a name with a zero byte is no folder's either
                known = frozenset()
            self._names[folder] = known
        return known

    def find(self, folders: Iterable[str], name: str) -> str | None:
        """Path of the file ``name`` (may hold subfolders) in the first folder that has it."""
        head, tail = os.path.split(name)
        for folder in folders:
            parent = os.path.normpath(os.path.join(folder, head)) if head else folder
            if tail in self.names(parent):
                return os.path.join(parent, tail)
        return None

    def find_stem(self, folders: Iterable[str], stem: str) -> str | None:
        """Path of the image ``stem`` (may hold subfolders) with any image suffix."""
        head, tail = os.path.split(stem)
        for folder in folders:
            parent = os.path.normpath(os.path.join(folder, head)) if head else folder
            by_stem = self._stems.get(parent)
            if by_stem is None:
                images = sorted(filter(is_image_name, self.names(parent)), reverse=True)
                by_stem = {os.path.splitext(image)[0]: image for image in images}
                self._stems[parent] = by_stem
            if tail in by_stem:
                return os.path.join(parent, by_stem[tail])
        return None


def existing_folder(root: str | Path) -> Path:
    """The path of the data set's folder, or an ``InputError`` that it is not there."""
    root = Path(root)
    if not root.is_dir():
        what = "the data set is a file, not a folder" if root.exists() else "no such folder"
        raise InputError(what, where=str(root), fix="name the folder of a data set")
    return root


def is_inside(path: str | Path, root: str | Path) -> bool:
    """Whether ``path`` lies in the folder ``root``, as written or with links followed."""
    try:
        written = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))
        return written or Path(path).resolve().is_relative_to(Path(root).resolve())
    except ValueError:  # no path at all: a zero byte, half a character
        return False


class UniqueNames:
    """File names for images that come together in one folder from several: no two stems alike.

    Compared without case, as Windows and macOS do; stems, because a label file takes the stem of
    its image.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str, split: str) -> str:
        """A free file name: the image's own, else with the split before it, else numbered."""
        own, suffix = os.path.splitext(name)
        stem, number = own, 2
        if stem.lower() in self._taken:
            stem = f"{split}_{own}"
        while stem.lower() in self._taken:
            stem, number = f"{split}_{own}_{number}", number + 1
        self._taken.add(stem.lower())
        return stem + suffix


def place_image(source: Path, target: Path, *, link: bool) -> None:
    """Copy the image file unchanged, or hard-link it where the disk can (``link``)."""
    if not source.is_file():
        raise InputError("the image is missing", where=str(source), fix="run data check")
    # A data set from elsewhere may call a link to somebody's keys a picture.
    if os.path.realpath(source) != os.path.abspath(source) and not is_image_file(source):
        raise InputError("this is no image", where=str(source), fix="run data check")
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another disk, or a file system without hard links
    shutil.copyfile(source, target)


@contextmanager
def new_folder(out_dir: Path) -> Iterator[Path]:
    """A folder to write into that becomes ``out_dir`` only when everything in it is written."""
    out_dir = Path(os.path.abspath(out_dir))
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise InputError(
            "the output folder is not empty", where=str(out_dir), fix="name a new folder"
        )
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out_dir.parent) as partial:
            yield partial
            if out_dir.exists():
                out_dir.rmdir()
            os.replace(partial, out_dir)
    except OSError as error:
        raise writing_error(error.filename2 or error.filename or out_dir, error) from error


def posix_name(name: str) -> str:
    """The file name with ``/`` between folders (tools on Windows write ``\\``)."""
    return str(PurePosixPath(name.replace("\\", "/")))
