"""COCO: one JSON file a split with images, annotations and categories.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; format at
https://cocodataset.org/#format-data. Annotation files are looked for in ``annotations/``, in the
folder itself and in the split's folder (Roboflow's ``train/_annotations.coco.json``); images in
the split's folder (``train2017/``, ``train/``, ``images/train/``), ``images/``, the folder itself
and beside the JSON file.

Category ids may have gaps; labels are contiguous from 0 in the order of the ids, over the
categories of all splits. Categories of one name (Roboflow repeats the super-category) are one
class.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.data.coco_json import read_categories, stream_coco_json
from flyweight.data.coco_layout import coco_splits, find_annotation_files, image_folders
from flyweight.data.image_files import (
    ImageListing,
    UniqueNames,
    existing_folder,
    is_inside,
    new_folder,
    place_image,
    posix_name,
)
from flyweight.data.record_table import RecordTable
from flyweight.data.records import (
    ALL_SPLITS,
    DetectionDataset,
    Problem,
    ProblemHandler,
    choose_splits,
    concatenate,
    find_box_faults,
    named_splits,
    report_problem,
)

__all__ = ["coco_splits", "load_coco", "save_coco"]

# N annotations of a file, G of them on one image

# Of an image, pixels: ten times what any camera or scanner gives.
MAX_SIDE = 1_000_000


def load_coco(
    root: str | Path, split: str | None = None, *, on_problem: ProblemHandler | None = None
) -> DetectionDataset:
    """Read a split (None: all) of a COCO folder."""
    root = existing_folder(root)
    files = find_annotation_files(root)
    chosen = choose_splits(split, list(files), root)
    class_names, label_of = _classes(files)
    parts = [
        DetectionDataset(
            _read_records(files[name], name, root, label_of, on_problem),
            class_names,
            root,
            name,
            "coco",
        )
        for name in chosen
    ]
    dataset = parts[0] if len(parts) == 1 else concatenate(parts, split or ALL_SPLITS)
    if not dataset.records:
        where = ", ".join(str(files[name]) for name in chosen)
        raise InputError("the data set has no images", where=where, fix="list some in 'images'")
    return dataset


def _classes(files: Mapping[str, Path]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names, and category id → label, over the categories of all splits."""
    names: dict[int, str] = {}
    for path in files.values():
        for identifier, name in read_categories(path).items():
            if names.setdefault(identifier, name) != name:
                raise InputError(
                    f"category {identifier} is '{name}' here and '{names[identifier]}' in "
                    "another split",
                    where=str(path),
                    fix="give every split the same categories",
                )
    if not names:
        where = ", ".join(map(str, files.values()))
        raise InputError("no categories", where=where, fix="list the classes in 'categories'")
    class_names = tuple(dict.fromkeys(names[identifier] for identifier in sorted(names)))
    position = {name: label for label, name in enumerate(class_names)}
    return class_names, {identifier: position[name] for identifier, name in names.items()}


def _read_records(
    path: Path,
    split: str,
    root: Path,
    label_of: Mapping[int, int],
    on_problem: ProblemHandler | None,
) -> RecordTable:
    images = _Images(path, split, root, on_problem)
    objects = _Objects(path, images.row_of, label_of, on_problem)
    seen, postponed = set(), False
    for section, first, entries in stream_coco_json(path):
        seen.add(section)
        if section == "images":
            images.read(first, entries)
        elif section == "annotations" and "images" in seen:
            objects.read(first, entries)
        postponed = postponed or (section == "annotations" and "images" not in seen)
    if postponed:  # the file has its annotations before its images
        for section, first, entries in stream_coco_json(path):
            if section == "annotations":
                objects.read(first, entries)
    return _sorted_by_image(images, objects.columns())


def _sorted_by_image(images: _Images, columns: dict[str, np.ndarray]) -> RecordTable:
    """The images that are there, with their objects in the order of the file."""
    there = np.array([path is not None for path in images.paths], dtype=bool)
    kept = there[columns["image"]]
    # one stable sort puts each image's objects side by side
    order = np.flatnonzero(kept)[np.argsort(columns["image"][kept], kind="stable")]
    counts = np.bincount(columns["image"][order], minlength=len(there))[there]
    return RecordTable(
        image_ids=list(compress(images.row_of, there)),
        paths=[path for path in images.paths if path is not None],
        sizes_hw=np.array(images.sizes_hw, dtype=np.int64).reshape(-1, 2)[there],
        ends=np.cumsum(counts),
        boxes_xyxy=columns["boxes_xyxy"][order],
        labels=columns["label"][order],
        crowd=columns["crowd"][order],
        difficult=columns["difficult"][order],
        areas=columns["area"][order],
    )


class _Images:
    """The list ``images``, read in parts.

    Attributes:
        row_of: image id → row.
        paths: of each row, None where the file is missing.
        sizes_hw: of each row, pixels.
    """

    def __init__(
        self, path: Path, split: str, root: Path, on_problem: ProblemHandler | None
    ) -> None:
        self.row_of: dict[int | str, int] = {}
        self.paths: list[str | None] = []
        self.sizes_hw: list[tuple[int, int]] = []
        self._where = path
        self._root = root
        self._on_problem = on_problem
        self._listing = ImageListing()
        self._folders = image_folders(root, path, split)

    def read(self, first: int, entries: list[Any]) -> None:
        """Entries of the list from the place `first` on."""
        for number, entry in enumerate(entries, start=first):
            where = f"{self._where}, images[{number}]"
            try:
                image_id, name = entry["id"], entry["file_name"]
                size_hw = (int(entry["height"]), int(entry["width"]))
                if not isinstance(image_id, int | str) or not isinstance(name, str):
                    raise TypeError
                if not 0 < min(size_hw) <= max(size_hw) <= MAX_SIDE:
                    raise ValueError
            except (TypeError, KeyError, ValueError, OverflowError):
                fix = (
                    "an image needs 'id', 'file_name', and 'width' and 'height' above 0 "
                    f"and up to {MAX_SIDE}"
                )
                self._report(Problem("bad_annotation", "image entry", where, fix))
                continue
            if image_id in self.row_of:
                message = f"image id {image_id} occurs twice"
                fix = "give every image its own id"
                self._report(Problem("duplicate_image_id", message, where, fix))
                continue
            self.row_of[image_id] = len(self.paths)
            self.paths.append(self._find(name, where))
            self.sizes_hw.append(size_hw)

    def _find(self, name: str, where: str) -> str | None:
        leaves = ".." in name or os.path.isabs(name)
        found = self._listing.find(self._folders, name)
        found = found or self._listing.find(self._folders, posix_name(name))
        if found is not None and leaves and not is_inside(found, self._root):
            found = None
        if found is None:
            message, fix = f"image {name} is missing", f"put it into {self._folders[0]}"
            self._report(Problem("missing_image", message, where, fix))
        return found

    def _report(self, problem: Problem) -> None:
        report_problem(problem, self._on_problem)


class _Objects:
    """The list ``annotations``, read in parts."""

    def __init__(
        self,
        path: Path,
        row_of: Mapping[int | str, int],
        label_of: Mapping[int, int],
        on_problem: ProblemHandler | None,
    ) -> None:
        self._path = path
        self._row_of = row_of
        self._label_of = label_of
        self._on_problem = on_problem
        self._parts = [
            _read_annotations([], 0, path, row_of, label_of, on_problem)  # the columns' types
        ]
        self._ids: set[int | str] = set()

    def read(self, first: int, entries: list[Any]) -> None:
        """Entries of the list from the place `first` on; all images are known."""
        if self._on_problem is not None:
            _report_duplicates(entries, first, self._path, self._on_problem, self._ids)
        self._parts.append(
            _read_annotations(
                entries, first, self._path, self._row_of, self._label_of, self._on_problem
            )
        )

    def columns(self) -> dict[str, np.ndarray]:
        """Columns [N] of the sound annotations: image row, label, box, area, crowd, difficult."""
        return {
            name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]
        }


def _read_annotations(
    entries: list[Any],
    first: int,
    path: Path,
    row_of: Mapping[int | str, int],
    label_of: Mapping[int, int],
    on_problem: ProblemHandler | None,
) -> dict[str, np.ndarray]:
    """Columns of the sound ones of some annotations, the file's from the place `first` on."""
    problems: dict[int, Problem] = {}
    numbers = np.arange(len(entries))
    try:
        columns = _annotation_columns(entries, row_of, label_of)
    except _MALFORMED:
        # Some entry is not what it should be: find out which, one by one.
        for number, entry in enumerate(entries):
            try:
                _annotation_columns([entry], row_of, label_of)
            except _MALFORMED:
                problems[number] = Problem("bad_annotation", "malformed annotation", "", _FIX_ENTRY)
        numbers = np.array([n for n in numbers.tolist() if n not in problems], dtype=np.int64)
        columns = _annotation_columns([entries[n] for n in numbers], row_of, label_of)
    faulty = find_box_faults(columns["boxes_xyxy"])
    problems |= {int(numbers[row]): problem for row, problem in faulty.items()}
    for row in np.flatnonzero(columns["label"] < 0).tolist():
        entry = entries[numbers[row]]
        message = f"category {entry['category_id']} is not in 'categories'"
        problems[int(numbers[row])] = Problem("unknown_class", message, "", "list it there")
    for row in np.flatnonzero(columns["image"] < 0).tolist():
        entry = entries[numbers[row]]
        message = f"image {entry['image_id']} is not in 'images'"
        fix = "list it there or delete the annotation"
        problems[int(numbers[row])] = Problem("unknown_image", message, "", fix)
    for number in sorted(problems):
        where = f"{path}, annotations[{first + number}]"
        identifier = entries[number].get("id") if isinstance(entries[number], dict) else None
        where += "" if identifier is None else f" (id {identifier})"
        report_problem(replace(problems[number], where=where), on_problem)
    sound = ~np.isin(numbers, list(problems))
    columns = {name: column[sound] for name, column in columns.items()}
    columns["boxes_xyxy"] = columns["boxes_xyxy"].astype(np.float32)
    return columns


_MALFORMED = (TypeError, KeyError, ValueError, OverflowError, AttributeError)
_FIX_ENTRY = "an annotation needs 'image_id', 'category_id' and 'bbox' as four numbers"


def _annotation_columns(
    entries: list[Any], row_of: Mapping[int | str, int], label_of: Mapping[int, int]
) -> dict[str, np.ndarray]:
    """The annotations as arrays, boxes still float64; unknown images and classes are -1."""
    count = len(entries)
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(count, 4)
    side_product = boxes[:, 2] * boxes[:, 3]
    boxes[:, 2:] += boxes[:, :2]
    area = np.array([entry.get("area") for entry in entries], dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        area = np.where(area > 0, area, side_product).astype(np.float32)
    image = [row_of.get(entry["image_id"], -1) for entry in entries]
    label = [label_of.get(entry["category_id"], -1) for entry in entries]
    return {
        "image": np.array(image, dtype=np.int64),
        "label": np.array(label, dtype=np.int64),
        "boxes_xyxy": boxes,
        "area": area,
        "crowd": np.array([bool(entry.get("iscrowd")) for entry in entries], dtype=bool),
        # Not COCO's: what ``save_coco`` writes for VOC's flag. Other tools pass over it.
        "difficult": np.array([bool(entry.get("difficult")) for entry in entries], dtype=bool),
    }


def _report_duplicates(
    entries: list[Any], first: int, path: Path, on_problem: ProblemHandler, seen: set[int | str]
) -> None:
    for number, entry in enumerate(entries, start=first):
        identifier = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(identifier, int | str):
            continue
        if identifier in seen:
            message = f"annotation id {identifier} occurs twice"
            where = f"{path}, annotations[{number}]"
            fix = "number the annotations anew"
            on_problem(Problem("duplicate_annotation_id", message, where, fix, severity="warning"))
        seen.add(identifier)


def save_coco(
    splits: DetectionDataset | Mapping[str, DetectionDataset],
    out_dir: str | Path,
    *,
    link: bool = False,
) -> Path:
    """Write ``annotations/instances_SPLIT.json`` and ``images/SPLIT/`` (copied, or hard-linked).

    Kept: boxes to float32 precision, classes in their order (ids from 1), crowds, areas, image
    ids where all are whole numbers (else images are numbered from 1) and, under a key of our
    own, ``difficult``. File names stay unless two images of a split share one.
    """
    splits = named_splits(splits)
    with new_folder(Path(out_dir)) as folder:
        (folder / "annotations").mkdir()
        for split, dataset in splits.items():
            images_dir = folder / "images" / split
            images_dir.mkdir(parents=True)
            content = _coco_content(dataset, split, images_dir, link)
            path = folder / "annotations" / f"instances_{split}.json"
            with path.open("w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, allow_nan=False)
    return Path(out_dir)


def _coco_content(
    dataset: DetectionDataset, split: str, images_dir: Path, link: bool
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = UniqueNames()
    keep_ids = all(isinstance(record.image_id, int) for record in dataset.records)
    for number, record in enumerate(dataset.records, start=1):
        image_id = record.image_id if keep_ids else number
        name = names.take(record.path.name, split)
        place_image(record.path, images_dir / name, link=link)
        height, width = record.size_hw
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        boxes_xywh = _shortest_decimals(record.boxes_xyxy)
        boxes_xywh[:, 2:] = np.round(boxes_xywh[:, 2:] - boxes_xywh[:, :2], 9)
        if record.areas is None:
            areas = np.round(boxes_xywh[:, 2] * boxes_xywh[:, 3], 4)
        else:
            areas = _shortest_decimals(record.areas)
        for row, (box_xywh, area) in enumerate(
            zip(boxes_xywh.tolist(), areas.tolist(), strict=True)
        ):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": int(record.labels[row]) + 1,
                "bbox": box_xywh,
                "area": area,
                "iscrowd": int(record.crowd[row]),
            }
            if record.difficult[row]:
                annotation["difficult"] = 1
            annotations.append(annotation)
    categories = [{"id": n, "name": name} for n, name in enumerate(dataset.class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _shortest_decimals(values: np.ndarray) -> np.ndarray:
    """Float32 values as the float64 that prints shortest: 33.28, not 33.279998779296875."""
    return values.astype(np.float32).astype("U32").astype(np.float64)
