"""YOLO: one text file an image, a line an object: class, then centre and size in parts of 1.

The format of Darknet and Ultralytics, described by ``data.yaml`` (see ``yolo_yaml``). The label
file of ``images/train/a.jpg`` is ``labels/train/a.txt``, or lies beside the image when no folder
is called ``images``. An image without one has no objects. A line of a class and three or more
points is a polygon; its hull is the box.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flyweight.core.errors import InputError
from flyweight.core.given_file import read_given
from flyweight.core.image import image_size_hw
from flyweight.data.image_files import (
    ImageListing,
    UniqueNames,
    existing_folder,
    new_folder,
    place_image,
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
from flyweight.data.yolo_yaml import DataYaml, find_data_yaml, list_images, read_data_yaml

# G objects of one label file

# Six decimals of a part of 1 are off by this many pixels at most in a picture 20,000 wide: boxes
# that only rounding pushed over the edge are pulled back to it.
_ROUNDING_PIXELS = 0.01
_ABOVE_ONE = 1.01
MAX_LABEL_BYTES = 16 << 20


def load_yolo(
    root: str | Path, split: str | None = None, *, on_problem: ProblemHandler | None = None
) -> DetectionDataset:
    """Read a split (None: all) of a YOLO folder; image sizes come from the images' headers."""
    root = existing_folder(root)
    path = find_data_yaml(root)
    if path is None:
        raise InputError("no data.yaml", where=str(root), fix="YOLO needs one with 'names'")
    data = read_data_yaml(path)
    chosen = choose_splits(split, list(data.sources), root)
    parts = []
    for name in chosen:
        records = _read_records(data, name, root, on_problem)
        parts.append(DetectionDataset(tuple(records), data.class_names, root, name, "yolo"))
    dataset = parts[0] if len(parts) == 1 else concatenate(parts, split or ALL_SPLITS)
    if not dataset.records:
        raise InputError(
            "the data set has no images",
            where=f"{path}, {', '.join(chosen)}",
            fix="put images into the folders it names",
        )
    return dataset


def yolo_splits(root: str | Path) -> list[str]:
    """Splits of the folder in the order train, val, test; empty when it is not YOLO."""
    path = find_data_yaml(Path(root))
    return [] if path is None else list(read_data_yaml(path).sources)


def _read_records(
    data: DataYaml, split: str, root: Path, on_problem: ProblemHandler | None
) -> list[Record]:
    listing = ImageListing()
    records = []
    labelled = 0
    for image in list_images(data, split):
        label_path = label_file(image, root)
        has_labels = label_path.name in listing.names(str(label_path.parent))
        labelled += has_labels
        try:
            size_hw = image_size_hw(image)
        except InputError as error:
            if on_problem is None:
                raise
            code = "unreadable_image" if image.is_file() else "missing_image"
            on_problem(Problem(code, error.what, str(image), error.fix))
            continue
        boxes_xyxy, labels = (
            _read_labels(label_path, size_hw, data, on_problem)
            if has_labels
            else (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        )
        none = np.zeros(len(labels), dtype=bool)
        name = Path(os.path.relpath(image, root)).with_suffix("").as_posix()
        records.append(Record(name, image, size_hw, boxes_xyxy, labels, none, none.copy()))
    if records and not labelled:
        message = f"not one of the {len(records)} images of '{split}' has a label file"
        where = str(label_file(records[0].path, root))
        fix = "labels/ mirrors images/, with .txt for the image's suffix"
        report_problem(Problem("no_labels", message, where, fix), on_problem)
    return records


def label_file(image: Path, root: Path) -> Path:
    """The label file of an image: the last folder ``images`` becomes ``labels``, else beside it."""
    parts = list(Path(os.path.relpath(image, root)).parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _read_labels(
    path: Path, size_hw: tuple[int, int], data: DataYaml, on_problem: ProblemHandler | None
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``xyxy`` [G, 4] float32 in pixels and labels [G] of one label file."""
    labels, rows, where = [], [], []
    text = read_given(path, most_bytes=MAX_LABEL_BYTES).decode("utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        parsed = _parse_line(line, data)
        if isinstance(parsed, Problem):
            report_problem(replace(parsed, where=place), on_problem)
            continue
        labels.append(parsed[0])
        rows.append(parsed[1])
        where.append(place)
    height, width = size_hw
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4) * [width, height, width, height]
    edges = np.array([width, height, width, height], dtype=np.float64)
    for edge in (np.zeros(4), edges):
        np.copyto(boxes, edge, where=np.abs(boxes - edge) < _ROUNDING_PIXELS)
    faults = find_box_faults(boxes)
    for row, problem in faults.items():
        report_problem(replace(problem, where=where[row]), on_problem)
    sound = ~np.isin(np.arange(len(boxes)), list(faults))
    return boxes[sound].astype(np.float32), np.array(labels, dtype=np.int64)[sound]


def _parse_line(line: str, data: DataYaml) -> tuple[int, list[float]] | Problem:
    """Label and ``xyxy`` in parts of 1, or what is wrong with the line."""
    fix = "a line is a class id, then x y width height or a polygon's points, in parts of 1"
    try:
        identifier, *values = map(float, line.split())
    except ValueError:
        return Problem("bad_annotation", f"not numbers: '{line.strip()[:40]}'", "", fix)
    if data.has_keypoints:
        values = values[:4]
    is_polygon = len(values) >= 6 and len(values) % 2 == 0
    if len(values) != 4 and not is_polygon:
        return Problem("bad_annotation", f"{len(values) + 1} numbers in a line", "", fix)
    if identifier not in data.label_of:
        known = f"{data.path.name} has {min(data.label_of)} to {max(data.label_of)}"
        message = f"class id {identifier:g} is unknown"
        return Problem("unknown_class", message, "", f"{known}; add it there or correct the line")
    if any(value > _ABOVE_ONE for value in values):
        return Problem("bad_annotation", "coordinates above 1", "", fix + ", not pixels")
    if is_polygon:
        points = np.array(values).reshape(-1, 2)
        box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]  # NaN stays NaN
    else:
        x, y, width, height = values
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return data.label_of[int(identifier)], box


def save_yolo(
    splits: DetectionDataset | Mapping[str, DetectionDataset],
    out_dir: str | Path,
    *,
    link: bool = False,
) -> Path:
    """Write ``data.yaml``, ``images/SPLIT/`` (copied, or hard-linked) and ``labels/SPLIT/``.

    Kept: boxes within 1e-4 pixels, clipped to the image (YOLO's readers refuse what sticks out),
    classes in their order. The format has no flags: crowd boxes are left out, since they would
    come back as one object; difficult ones come back as any other. Areas and image ids are not
    kept, and images come back in the order of their names.
    """
    splits = named_splits(splits)
    with new_folder(Path(out_dir)) as folder:
        for split, dataset in splits.items():
            for name in ("images", "labels"):
                (folder / name / split).mkdir(parents=True)
            filenames = UniqueNames()
            for record in dataset.records:
                filename = filenames.take(record.path.name, split)
                place_image(record.path, folder / "images" / split / filename, link=link)
                path = (folder / "labels" / split / filename).with_suffix(".txt")
                path.write_text(_label_lines(record), encoding="utf-8")
        class_names = next(iter(splits.values())).class_names
        path = folder / "data.yaml"
        path.write_text(_data_yaml(list(splits), class_names), encoding="utf-8")
    return Path(out_dir)


def _label_lines(record: Record) -> str:
    height, width = record.size_hw
    edges = np.array([width, height, width, height], dtype=np.float64)
    boxes = np.clip(record.boxes_xyxy.astype(np.float64), 0, edges) / edges
    lines = []
    for label, crowd, (x1, y1, x2, y2) in zip(
        record.labels.tolist(), record.crowd.tolist(), boxes.tolist(), strict=True
    ):
        if crowd or x2 <= x1 or y2 <= y1:
            continue
        values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        lines.append(" ".join([str(label), *(f"{value:.9g}" for value in values)]) + "\n")
    return "".join(lines)


def _data_yaml(splits: list[str], class_names: tuple[str, ...]) -> str:
    """Written by hand, so that writing needs no PyYAML: a JSON string is a YAML string."""
    lines = ["path: ."]
    paths = {split: f"images/{split}" for split in splits}
    lines += [f"{split}: {path}" for split, path in paths.items()]
    lines.append("names:")
    lines += [
        f"  {label}: {json.dumps(name, ensure_ascii=False)}"
        for label, name in enumerate(class_names)
    ]
    return "\n".join(lines) + "\n"
