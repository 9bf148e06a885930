"""PASCAL VOC: one XML file an image, splits as lists of names.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010. Layouts read:
``Annotations/ JPEGImages/ ImageSets/Main/{train,val,test}.txt``; the same without ``ImageSets``
(all of it is ``train``); and XML files beside their images, in the folder itself or in
``train/ valid/ test/``.

VOC's corners are 1-based and inclusive: the pixel in the top left corner is ``1, 1, 1, 1``.
Flyweight's are continuous, so it becomes ``0, 0, 1, 1``, and the writer undoes it.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PureWindowsPath

import numpy as np

from flyweight.core.errors import InputError
from flyweight.core.given_file import read_given, read_given_text
from flyweight.core.image import image_size_hw
from flyweight.data.image_files import (
    ImageListing,
    UniqueNames,
    existing_folder,
    is_inside,
    new_folder,
    place_image,
)
from flyweight.data.records import (
    ALL_SPLITS,
    SPLITS,
    DetectionDataset,
    Problem,
    ProblemHandler,
    Record,
    canonical_split,
    choose_splits,
    concatenate,
    find_box_faults,
    named_splits,
    report_problem,
    split_words,
)

# G objects of one annotation file

MAX_XML_BYTES = 64 << 20
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "")


@dataclass(frozen=True)
class _Annotation:
    """One XML file; a value that is not what it should be is a problem, not yet an error."""

    filename: str
    size_hw: tuple[int, int] | None
    names: tuple[str, ...]
    boxes_xyxy: np.ndarray  # [G, 4] float64, pixels, continuous
    crowd: np.ndarray  # [G] bool
    difficult: np.ndarray  # [G] bool
    problems: tuple[Problem, ...]


def load_voc(
    root: str | Path, split: str | None = None, *, on_problem: ProblemHandler | None = None
) -> DetectionDataset:
    """Read a split (None: all) of a VOC folder; classes are all splits' names, sorted."""
    root = existing_folder(root)
    layout = _find_annotations(root)
    chosen = choose_splits(split, list(layout), root)
    class_names = _class_names(layout, root, on_problem)
    label_of = {name: label for label, name in enumerate(class_names)}
    listing = ImageListing()
    parts = []
    for name in chosen:
        records = [
            record
            for path in layout[name]
            if (record := _read_record(path, root, label_of, listing, on_problem)) is not None
        ]
        parts.append(DetectionDataset(tuple(records), class_names, root, name, "voc"))
    dataset = parts[0] if len(parts) == 1 else concatenate(parts, split or ALL_SPLITS)
    if not dataset.records:
        raise InputError(
            "the data set has no images", where=str(root), fix="add images and their XML files"
        )
    return dataset


def voc_splits(root: str | Path) -> list[str]:
    """Splits of the folder in the order train, val, test; empty when it is not VOC."""
    return list(_find_annotations(Path(root), missing_ok=True))


def _find_annotations(root: Path, *, missing_ok: bool = False) -> dict[str, list[Path]]:
    """Split → its XML files, in the order of the lists (or of the names, without lists)."""
    folder = root / "Annotations"
    if any(folder.glob("*.xml")) or (root / "ImageSets").is_dir():
        layout = _read_image_sets(root, folder)
        if not layout:
            layout = {"train": sorted(folder.glob("*.xml"))}
    else:
        layout = {}
        for split in SPLITS:
            files = [
                path
                for word in split_words(split)
                for parent in (root / word, root / "images" / word, folder / word)
                for path in sorted(parent.glob("*.xml"))
            ]
            if files:
                layout[split] = files
        beside = sorted(root.glob("*.xml")) or sorted((root / "images").glob("*.xml"))
        if not layout and beside:
            layout = {"train": beside}
    layout = {split: files for split, files in layout.items() if files}
    if not layout and not missing_ok:
        raise InputError(
            "the data set has no images", where=str(root), fix="VOC keeps XML files in Annotations/"
        )
    return layout


def _read_image_sets(root: Path, folder: Path) -> dict[str, list[Path]]:
    """The lists in ``ImageSets/Main``; ``trainval`` stands in where there is no ``train``."""
    lists = {}
    for place in (root / "ImageSets", root / "ImageSets" / "Main"):
        for path in sorted(place.glob("*.txt")):
            word = path.stem.lower()
            lists["trainval" if word == "trainval" else canonical_split(word)] = path
    layout = {split: _read_list(lists[split], folder) for split in SPLITS if split in lists}
    if "train" not in layout and "trainval" in lists:
        held_out = set(layout.get("val", ()))
        both = _read_list(lists["trainval"], folder)
        layout = {"train": [path for path in both if path not in held_out], **layout}
    return layout


def _read_list(path: Path, folder: Path) -> list[Path]:
    """XML paths of the names in a list; a second column (VOC's class lists) is left out."""
    try:
        lines = read_given_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise InputError("the list is not text", where=str(path), fix="save it as UTF-8") from error
    files = []
    for line in filter(None, (line.strip() for line in lines)):
        whole = folder / f"{line}.xml"
        has_flag = " " in line and not whole.is_file()
        file = folder / f"{line.split()[0]}.xml" if has_flag else whole
        if ".." in line or line.startswith("/"):
            _check_inside(file, folder, path)
        files.append(file)
    return files


def _check_inside(file: Path, folder: Path, list_path: Path) -> None:
    if not is_inside(file, folder):
        raise InputError(
            f"the list names a file outside the data set ('{file.stem}')",
            where=str(list_path),
            fix="put the annotations into Annotations/ and write their names alone",
        )


def _class_names(
    layout: Mapping[str, list[Path]],
    root: Path,
    on_problem: ProblemHandler | None,
) -> tuple[str, ...]:
    """Sorted names of all objects in all splits.

    With a handler, broken files are passed over here: they are reported where their split is read.
    """
    names: set[str] = set()
    for files in layout.values():
        for path in files:
            try:
                names.update(_read_annotation(path).names)
            except InputError:
                if on_problem is None:
                    raise
    names.discard("")
    if not names:
        raise InputError(
            "no object in any annotation", where=str(root), fix="label some objects first"
        )
    return tuple(sorted(names))


def _read_annotation(path: Path) -> _Annotation:
    try:
        state = path.stat()
        return _parse_annotation(str(path), state.st_mtime_ns, state.st_size)
    except (FileNotFoundError, ValueError):  # or no path at all
        raise InputError(
            "the annotation file is missing",
            where=str(path),
            fix="add it or take the name out of ImageSets",
        ) from None
    except OSError as error:
        raise InputError(
            f"the annotation file cannot be read ({error.strerror})", where=path
        ) from error


# Class names need every split's files and each split is opened by itself; keyed by time and size,
# so an edited file is read again.
@lru_cache(maxsize=65536)
def _parse_annotation(path: str, mtime_ns: int, size: int) -> _Annotation:
    try:
        # The parser follows no external entity, and expat (2.4 and later) stops those that swell.
        tree = ElementTree.fromstring(read_given(path, most_bytes=MAX_XML_BYTES))
    except (LookupError, ValueError) as error:
        raise InputError("broken XML (its encoding is not known)", where=path) from error
    except ElementTree.ParseError as error:
        line, column = error.position
        raise InputError(
            f"broken XML ({error.msg.split(':')[0]})",
            where=f"{path}, line {line}, column {column + 1}",
            fix="repair or delete the file",
        ) from error
    if tree.tag != "annotation":
        raise InputError(
            f"not a VOC annotation: its root is <{tree.tag}>",
            where=path,
            fix="VOC files start with <annotation>",
        )
    names, corners, crowd, difficult, problems = [], [], [], [], []
    for number, item in enumerate(tree.findall("object"), start=1):
        name = (item.findtext("name") or "").strip()
        where = f"{path}, object {number}" + (f" ({name})" if name else "")
        try:
            box = [float(item.findtext(f"bndbox/{corner}") or "") for corner in _CORNERS]
        except ValueError:
            fix = "an object needs <bndbox> with <xmin> <ymin> <xmax> <ymax>"
            problems.append(Problem("bad_annotation", "object without a whole box", where, fix))
            continue
        if not name:
            fix = "an object needs a <name>"
            problems.append(Problem("unknown_class", "object without a class name", where, fix))
            continue
        box[0] -= 1
        box[1] -= 1
        fault = find_box_faults(np.array([box])).get(0)
        if fault is not None:
            problems.append(replace(fault, where=where))
            continue
        names.append(name)
        corners.append(box)
        crowd.append(_flag(item, "iscrowd"))
        difficult.append(_flag(item, "difficult") and not crowd[-1])
    try:
        size_hw = (int(tree.findtext("size/height") or 0), int(tree.findtext("size/width") or 0))
    except ValueError:
        size_hw = (0, 0)
    return _Annotation(
        filename=PureWindowsPath((tree.findtext("filename") or "").strip()).name,
        size_hw=size_hw if min(size_hw) > 0 else None,
        names=tuple(names),
        boxes_xyxy=np.array(corners, dtype=np.float64).reshape(-1, 4),
        crowd=np.array(crowd, dtype=bool),
        difficult=np.array(difficult, dtype=bool),
        problems=tuple(problems),
    )


def _flag(item: ElementTree.Element, name: str) -> bool:
    return (item.findtext(name) or "").strip().lower() in ("1", "true")


def _read_record(
    path: Path,
    root: Path,
    label_of: Mapping[str, int],
    listing: ImageListing,
    on_problem: ProblemHandler | None,
) -> Record | None:
    try:
        annotation = _read_annotation(path)
    except InputError as error:
        if on_problem is None:
            raise
        code = "bad_annotation" if path.is_file() else "missing_annotation"
        on_problem(Problem(code, error.what, error.where or str(path), error.fix))
        return None
    for problem in annotation.problems:
        report_problem(problem, on_problem)
    image = _find_image(path, annotation.filename, root, listing)
    if image is None:
        message = f"the image of this annotation is missing ({annotation.filename or path.stem})"
        fix = f"put it into {root / 'JPEGImages'} or delete the annotation"
        report_problem(Problem("missing_image", message, str(path), fix), on_problem)
        return None
    try:
        size_hw = annotation.size_hw or image_size_hw(image)
    except InputError as error:
        if on_problem is None:
            raise
        on_problem(Problem("unreadable_image", error.what, str(image), error.fix))
        return None
    return Record(
        image_id=path.stem,
        path=image,
        size_hw=size_hw,
        boxes_xyxy=annotation.boxes_xyxy.astype(np.float32),
        labels=np.array([label_of[name] for name in annotation.names], dtype=np.int64),
        # Copies: the annotation stays in the cache.
        crowd=annotation.crowd.copy(),
        difficult=annotation.difficult.copy(),
    )


def _find_image(path: Path, filename: str, root: Path, listing: ImageListing) -> Path | None:
    """The image of an XML file: of the same stem, else the one that ``<filename>`` names.

    The stem goes first because ``<filename>`` is what tools forget to change when files are
    renamed, and the lists in ImageSets go by stems as well.
    """
    folders = [os.path.join(root, name) if name else str(root) for name in _IMAGE_FOLDERS]
    folders.append(str(path.parent))
    if path.parent.name != "Annotations":
        folders.insert(0, str(path.parent))  # XML files beside their images
        folders += [os.path.join(folder, path.parent.name) for folder in folders[1:-1]]
    found = None
    if filename and os.path.splitext(filename)[0] == path.stem:
        found = listing.find(folders, filename)
    found = found or listing.find_stem(folders, path.stem)
    if found is None and filename:
        found = listing.find(folders, filename)
    return Path(found) if found else None


def save_voc(
    splits: DetectionDataset | Mapping[str, DetectionDataset],
    out_dir: str | Path,
    *,
    link: bool = False,
) -> Path:
    """Write a VOC folder: image files copied (hard-linked with ``link``), one XML file an image.

    Kept: boxes within 1e-4 pixels, classes that have objects (VOC lists no others; they come back
    sorted), ``difficult``. VOC has no crowds: a crowd box is written as difficult, which other
    tools ignore in evaluation, with an ``<iscrowd>`` of our own that brings it back. Areas and
    image ids are not kept: ids become file stems, with the split's name before them where two
    images share one.
    """
    splits = named_splits(splits)
    filenames = UniqueNames()
    with new_folder(Path(out_dir)) as folder:
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / name).mkdir(parents=True)
        for split, dataset in splits.items():
            names = []
            for record in dataset.records:
                filename = filenames.take(record.path.name, split)
                stem = os.path.splitext(filename)[0]
                place_image(record.path, folder / "JPEGImages" / filename, link=link)
                tree = _annotation_tree(record, filename, dataset.class_names)
                ElementTree.indent(tree)
                tree.write(folder / "Annotations" / f"{stem}.xml", encoding="utf-8")
                names.append(stem)
            text = "".join(f"{name}\n" for name in names)
            path = folder / "ImageSets" / "Main" / f"{split}.txt"
            path.write_text(text, encoding="utf-8")
    return Path(out_dir)


def _annotation_tree(
    record: Record, filename: str, class_names: tuple[str, ...]
) -> ElementTree.ElementTree[ElementTree.Element]:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "folder").text = "JPEGImages"
    ElementTree.SubElement(root, "filename").text = filename
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*record.size_hw[::-1], 3), strict=True):
        ElementTree.SubElement(size, name).text = str(value)
    for row, box in enumerate(record.boxes_xyxy.tolist()):
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = class_names[record.labels[row]]
        crowd = bool(record.crowd[row])
        difficult = crowd or bool(record.difficult[row])
        ElementTree.SubElement(item, "difficult").text = str(int(difficult))
        if crowd:
            ElementTree.SubElement(item, "iscrowd").text = "1"
        corners = ElementTree.SubElement(item, "bndbox")
        for name, value in zip(_CORNERS, (box[0] + 1, box[1] + 1, box[2], box[3]), strict=True):
            text = f"{value:.5f}".rstrip("0").rstrip(".")
            ElementTree.SubElement(corners, name).text = text
    return ElementTree.ElementTree(root)
