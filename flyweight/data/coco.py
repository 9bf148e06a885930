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
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.data.coco_json import read_categories, read_coco_json
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
from flyweight.data.records import (
    ALL_SPLITS,
    DetectionDataset,
    Problem,
    ProblemHandler,
    Record,
    choose_splits,
    concatenate,
    find_box_faults,
    named_splits,
    report_problem,
)

__all__ = ["coco_splits", "load_coco", "save_coco"]

# N annotations of a file, G of them on one image


def load_coco(
    root: str | Path, split: str | None = None, *, on_problem: ProblemHandler | None = None
) -> DetectionDataset:
    """Read a split (None: all) of a COCO folder."""
    root = existing_folder(root)
    files = find_annotation_files(root)
    chosen = choose_splits(split, list(files), root)
    class_names, label_of = _classes(files)
    parts = []
    for name in chosen:
        content = read_coco_json(files[name])
        records = _read_records(content, files[name], name, root, label_of, on_problem)
        parts.append(DetectionDataset(tuple(records), class_names, root, name, "coco"))
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
    content: dict[str, Any],
    path: Path,
    split: str,
    root: Path,
    label_of: Mapping[int, int],
    on_problem: ProblemHandler | None,
) -> list[Record]:
    images, index_of = _read_images(content["images"], path, split, root, on_problem)
    annotations = content.get("annotations", [])
    columns = _read_annotations(annotations, path, index_of, label_of, on_problem)
    # One stable sort puts each image's objects side by side, in the order of the file; the
    # records are slices of the sorted columns.
    order = np.argsort(columns["image"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    ends = np.cumsum(np.bincount(columns["image"], minlength=len(images))).tolist()
    records = []
    start = 0
    for (image_id, image, size_hw), end in zip(images, ends, strict=True):
        if image is not None:
            records.append(
                Record(
                    image_id=image_id,
                    path=image,
                    size_hw=size_hw,
                    boxes_xyxy=columns["boxes_xyxy"][start:end],
                    labels=columns["label"][start:end],
                    crowd=columns["crowd"][start:end],
                    difficult=columns["difficult"][start:end],
                    areas=columns["area"][start:end],
                )
            )
        start = end
    return records


def _read_images(
    entries: list[Any], path: Path, split: str, root: Path, on_problem: ProblemHandler | None
) -> tuple[list[tuple[int | str, Path | None, tuple[int, int]]], dict[int | str, int]]:
    """Rows (id, file or None where it is missing, size), and id → row."""
    listing = ImageListing()
    folders = image_folders(root, path, split)
    rows: list[tuple[int | str, Path | None, tuple[int, int]]] = []
    index_of: dict[int | str, int] = {}
    for number, entry in enumerate(entries):
        where = f"{path}, images[{number}]"
        try:
            image_id, name = entry["id"], entry["file_name"]
            size_hw = (int(entry["height"]), int(entry["width"]))
            if not isinstance(image_id, int | str) or not isinstance(name, str):
                raise TypeError
            if min(size_hw) <= 0:
                raise ValueError
        except (TypeError, KeyError, ValueError, OverflowError):
            fix = "an image needs 'id', 'file_name', and 'width' and 'height' above 0"
            report_problem(Problem("bad_annotation", "image entry", where, fix), on_problem)
            continue
        if image_id in index_of:
            message = f"image id {image_id} occurs twice"
            fix = "give every image its own id"
            report_problem(Problem("duplicate_image_id", message, where, fix), on_problem)
            continue
        leaves = ".." in name or os.path.isabs(name)
        found = listing.find(folders, name) or listing.find(folders, posix_name(name))
        if found is not None and leaves and not is_inside(found, root):
            found = None
        if found is None:
            message = f"image {name} is missing"
            fix = f"put it into {folders[0]}"
            report_problem(Problem("missing_image", message, where, fix), on_problem)
        index_of[image_id] = len(rows)
        rows.append((image_id, None if found is None else Path(found), size_hw))
    return rows, index_of


def _read_annotations(
    entries: list[Any],
    path: Path,
    index_of: Mapping[int | str, int],
    label_of: Mapping[int, int],
    on_problem: ProblemHandler | None,
) -> dict[str, np.ndarray]:
    """Columns [N] of the sound annotations: image row, label, box, area, crowd, difficult."""
    problems: dict[int, Problem] = {}
    numbers = np.arange(len(entries))
    try:
        columns = _annotation_columns(entries, index_of, label_of)
    except _MALFORMED:
        # Some entry is not what it should be: find out which, one by one.
        for number, entry in enumerate(entries):
            try:
                _annotation_columns([entry], index_of, label_of)
            except _MALFORMED:
                problems[number] = Problem("bad_annotation", "malformed annotation", "", _FIX_ENTRY)
        numbers = np.array([n for n in numbers.tolist() if n not in problems], dtype=np.int64)
        columns = _annotation_columns([entries[n] for n in numbers], index_of, label_of)
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
    if on_problem is not None:
        _report_duplicates(entries, path, on_problem)
    for number in sorted(problems):
        where = f"{path}, annotations[{number}]"
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
    entries: list[Any], index_of: Mapping[int | str, int], label_of: Mapping[int, int]
) -> dict[str, np.ndarray]:
    """The annotations as arrays, boxes still float64; unknown images and classes are -1."""
    count = len(entries)
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(count, 4)
    side_product = boxes[:, 2] * boxes[:, 3]
    boxes[:, 2:] += boxes[:, :2]
    area = np.array([entry.get("area") for entry in entries], dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        area = np.where(area > 0, area, side_product).astype(np.float32)
    image = [index_of.get(entry["image_id"], -1) for entry in entries]
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


def _report_duplicates(entries: list[Any], path: Path, on_problem: ProblemHandler) -> None:
    seen: set[Any] = set()
    for number, entry in enumerate(entries):
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
