"""The doctor: what is wrong with a data set, how bad it is, and what to do about it.

Errors make training fail or its figures wrong (an unreadable image, an image of `test` in
`train`); warnings are likely mistakes of labelling; notes are worth knowing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_iou
from flyweight.data.anchor_recall import AnchorRecall, anchor_recall
from flyweight.data.default_boxes import relative_boxes
from flyweight.data.diagnosis import Collector, Diagnosis, Severity
from flyweight.data.fingerprints import Fingerprint, fingerprints, near_duplicates
from flyweight.data.formats import available_splits, open_dataset
from flyweight.data.records import DetectionDataset, Problem, Record
from flyweight.data.statistics import dataset_statistics

# A box may exceed its image by this many pixels: rounding of an annotation tool.
_BORDER_SLACK = 1.5
# Boxes that overlap this much are one object labelled twice.
_SAME_BOX_IOU = 0.95
# What the loader's problems are called when several come together.
_LOADER_FINDINGS = {
    "missing_image": "an image is missing",
    "unreadable_image": "an image cannot be read",
    "missing_annotation": "an annotation file is missing",
    "bad_annotation": "an annotation cannot be understood",
    "nan_box": "a coordinate is not a number",
    "inverted_box": "a box ends before it starts",
    "empty_box": "a box has no area",
    "unknown_class": "an annotation is of a class that is not listed",
    "unknown_image": "an annotation is of an image that is not listed",
    "duplicate_image_id": "two images have the same id",
    "duplicate_annotation_id": "two annotations have the same id",
    "no_labels": "an image has no label file",
}
# Enough objects for a stable figure; more would only take time.
_RECALL_OBJECTS = 20_000


def examine(
    root: str | Path,
    *,
    anchors_xyxy: npt.NDArray[np.floating] | None = None,
    match_iou: float = 0.5,
    read_images: bool = True,
) -> Diagnosis:
    """Reads every split of the data set at `root`, past its faults, and diagnoses it.

    The arguments are those of `diagnose`.
    """
    problems: list[Problem] = []
    datasets = {
        split: open_dataset(root, split, on_problem=problems.append)
        for split in available_splits(root)
    }
    return diagnose(
        datasets,
        anchors_xyxy=anchors_xyxy,
        match_iou=match_iou,
        problems=problems,
        read_images=read_images,
    )


def diagnose(
    datasets: Mapping[str, DetectionDataset],
    *,
    anchors_xyxy: npt.NDArray[np.floating] | None = None,
    match_iou: float = 0.5,
    problems: Sequence[Problem] = (),
    read_images: bool = True,
    tiny_side: float = 3.0,
) -> Diagnosis:
    """Looks at all splits of a data set.

    Args:
        datasets: split name (`train`, `val`, `test`) to its records.
        anchors_xyxy: the anchors of a model, `[A, 4]` relative to its input (0..1), to measure
            how many objects none of them matches.
        match_iou: the overlap from which the model's matcher takes an anchor.
        problems: what the loader reported while reading (`on_problem`).
        read_images: decode every image; without it only the files' presence is checked.
        tiny_side: boxes with a side below this many pixels are reported.
    """
    ward = Collector()
    for problem in problems:
        fix = problem.fix or "correct or delete that annotation"
        title = _LOADER_FINDINGS.get(problem.code, problem.code.replace("_", " "))
        where = f"{problem.where}: {problem.message}"
        ward.note(problem.severity, problem.code, title, where, fix)
    _check_amount(ward, datasets)
    for split, dataset in datasets.items():
        _check_ids(ward, split, dataset)
        for record in dataset.records:
            _check_boxes(ward, record, dataset.class_names, tiny_side)
    _check_files(ward, datasets, read_images=read_images)
    tables = {split: dataset_statistics(dataset) for split, dataset in datasets.items()}
    _check_classes(ward, datasets, tables)
    recall = None
    if anchors_xyxy is not None:
        recall = _check_anchors(ward, datasets, anchors_xyxy, match_iou)
    return Diagnosis(ward.findings(), tables, recall)


def _check_amount(ward: Collector, datasets: Mapping[str, DetectionDataset]) -> None:
    """Are there images, objects, and something to validate on."""
    for split, dataset in datasets.items():
        where = f"{dataset.root} ({split})"
        bare = sum(len(record) == 0 for record in dataset.records)
        if len(dataset) == 0:
            ward.note("error", "no_images", "the split has no images", where, "add images to it")
        elif bare == len(dataset):
            ward.note("error", "no_objects", "no image has an object", where, "label the images")
        elif bare > len(dataset) / 2:
            ward.note(
                "info",
                "many_empty_images",
                "more than half of the images have no object",
                f"{where}: {bare} of {len(dataset)}",
                "make sure that they were labelled",
            )
    if datasets and "val" not in datasets:
        root = str(next(iter(datasets.values())).root)
        ward.note(
            "info",
            "no_validation_split",
            "there is no split named val",
            root,
            "training sets a part of train aside; a fixed split makes runs comparable",
        )


def _check_ids(ward: Collector, split: str, dataset: DetectionDataset) -> None:
    """Ids must be unique, or evaluation mixes images up."""
    seen: set[int | str] = set()
    for record in dataset.records:
        if record.image_id in seen:
            ward.note(
                "error",
                "duplicate_image_id",
                "two images have the same id",
                f"{split}: id {record.image_id} ({record.path.name})",
                "number the images anew",
            )
        seen.add(record.image_id)


def _check_boxes(
    ward: Collector, record: Record, class_names: tuple[str, ...], tiny_side: float
) -> None:
    """Every box is finite, has an area, lies in the image and is there once."""
    boxes = record.boxes_xyxy.astype(np.float64)
    height, width = record.size_hw
    fix = "correct or delete that box"

    def note(severity: Severity, code: str, message: str, rows: npt.NDArray[np.bool_]) -> None:
        for row in np.flatnonzero(rows).tolist():
            corners = ", ".join(f"{value:g}" for value in boxes[row].tolist())
            where = f"{record.path.name}, box {row + 1} ({corners}) in {width} x {height}"
            ward.note(severity, code, message, where, fix)

    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(boxes).all(axis=1))
    usable = np.where(finite[:, None], boxes, 0)
    low, high = usable[:, :2], usable[:, 2:]
    size_wh = np.array([width, height], np.float64)
    empty = finite & np.asarray((high <= low).any(axis=1))
    whole = finite & ~empty
    outside = whole & np.asarray(np.logical_or(low >= size_wh, high <= 0).any(axis=1))
    past = np.logical_or(low < -_BORDER_SLACK, high > size_wh + _BORDER_SLACK)
    beyond = whole & ~outside & np.asarray(past.any(axis=1))
    tiny = whole & np.asarray((high - low < tiny_side).any(axis=1))
    note("error", "nan_box", "a coordinate is not a number", ~finite)
    note("error", "empty_box", "a box has no area", empty)
    note("error", "box_outside", "a box lies outside its image", outside)
    note("warning", "box_beyond_border", "a box reaches beyond its image", beyond)
    note(
        "warning",
        "tiny_box",
        f"a side is below {tiny_side:g} pixels",
        tiny,
    )
    unknown = (record.labels < 0) | (record.labels >= len(class_names))
    note("error", "unknown_class", "a label has no class name", unknown)
    _check_twins(ward, record, class_names, whole & ~record.crowd & ~unknown)


def _check_twins(
    ward: Collector, record: Record, class_names: tuple[str, ...], usable: npt.NDArray[np.bool_]
) -> None:
    """One object labelled twice, with one class or with two."""
    rows = np.flatnonzero(usable)
    if len(rows) < 2:
        return
    boxes = record.boxes_xyxy[rows].astype(np.float64)
    first, second = np.nonzero(np.triu(box_iou(boxes, boxes) >= _SAME_BOX_IOU, 1))
    for a, b in zip(rows[first].tolist(), rows[second].tolist(), strict=True):
        names = [class_names[int(record.labels[row])] for row in (a, b)]
        where = f"{record.path.name}, boxes {a + 1} and {b + 1} ({' and '.join(names)})"
        if names[0] == names[1]:
            ward.note(
                "warning",
                "duplicate_box",
                "an object is labelled twice",
                where,
                "delete one of them",
            )
        else:
            ward.note(
                "warning",
                "conflicting_labels",
                "an object has two classes",
                where,
                "keep the right one",
            )


def _check_files(
    ward: Collector, datasets: Mapping[str, DetectionDataset], *, read_images: bool
) -> None:
    """Every image is there, decodes, has the size its annotation says, and is there once."""
    present: list[tuple[str, Record]] = []
    for split, dataset in datasets.items():
        for record in dataset.records:
            if record.path.is_file():
                present.append((split, record))
            else:
                ward.note(
                    "error",
                    "missing_image",
                    "an image is missing",
                    str(record.path),
                    "add the file or delete its annotation",
                )
    if not read_images:
        return
    prints = fingerprints(record.path for _, record in present)
    for (_, record), seen in zip(present, prints, strict=True):
        if seen.error is not None:
            ward.note(
                "error",
                "unreadable_image",
                "an image cannot be read",
                f"{record.path}: {seen.error}",
                "copy the file again or remove it",
            )
        elif seen.size_hw != record.size_hw:
            _note_size(ward, record, seen.size_hw)
    _check_copies(ward, present, prints)


def _note_size(ward: Collector, record: Record, real_hw: tuple[int, int]) -> None:
    height, width = record.size_hw
    where = f"{record.path.name}: annotated {width} x {height}, is {real_hw[1]} x {real_hw[0]}"
    fix = "scale the boxes to the file's size or restore the file"
    if real_hw == (width, height):
        fix = "the picture is turned (EXIF): label it upright or strip the rotation"
    ward.note(
        "error", "size_mismatch", "the annotation has another size than the image", where, fix
    )


def _check_copies(
    ward: Collector, present: Sequence[tuple[str, Record]], prints: Sequence[Fingerprint]
) -> None:
    """The same picture twice: within a split it weighs double, between splits it leaks."""
    first_of: dict[str, int] = {}
    pairs: list[tuple[int, int, bool]] = []
    for index, one in enumerate(prints):
        if one.error is None:
            first = first_of.setdefault(one.sha1, index)
            if first != index:
                pairs.append((first, index, True))
    pairs += [(a, b, False) for a, b in near_duplicates(prints)]
    for a, b, same in pairs:
        (split_a, record_a), (split_b, record_b) = present[a], present[b]
        where = f"{split_a}/{record_a.path.name} and {split_b}/{record_b.path.name}"
        if split_a != split_b and same:
            ward.note(
                "error",
                "shared_image",
                "an image is in two splits",
                where,
                "take it out of one: figures on it say nothing",
            )
        elif split_a != split_b:
            ward.note(
                "warning",
                "similar_image_in_splits",
                "images of two splits look the same",
                where,
                "if they show the same scene, keep them in one split",
            )
        elif same:
            ward.note(
                "warning", "duplicate_image", "an image is there twice", where, "remove one of them"
            )
        else:
            ward.note(
                "info",
                "similar_images",
                "images look the same",
                where,
                "remove one if they add nothing",
            )


def _check_classes(
    ward: Collector, datasets: Mapping[str, DetectionDataset], tables: Mapping[str, Any]
) -> None:
    """Every class can be learned from train and measured on the other splits."""
    names = list(
        dict.fromkeys(name for dataset in datasets.values() for name in dataset.class_names)
    )
    for name in names:
        counts = {
            split: int(table["classes"].get(name, {"objects": 0})["objects"])
            for split, table in tables.items()
        }
        total = sum(counts.values())
        if total == 0:
            ward.note(
                "warning",
                "class_without_objects",
                "a class has no objects at all",
                name,
                "label some or take the class off the list",
            )
            continue
        for split, count in counts.items():
            if count == 0 and split == "train":
                ward.note(
                    "warning",
                    "class_absent_from_train",
                    "a class has no objects to learn from",
                    name,
                    "move images of it into train",
                )
            elif count == 0:
                ward.note(
                    "warning",
                    "class_absent_from_split",
                    "a class cannot be measured on a split",
                    f"{name} in {split}",
                    "move images of it there",
                )
        if 0 < counts.get("train", 0) < 20:
            ward.note(
                "info",
                "rare_class",
                "a class has fewer than 20 objects in train",
                f"{name}: {counts['train']}",
                "label more of it",
            )


def _check_anchors(
    ward: Collector,
    datasets: Mapping[str, DetectionDataset],
    anchors_xyxy: npt.NDArray[np.floating],
    match_iou: float,
) -> AnchorRecall | None:
    """How many objects no anchor of the model matches."""
    chosen = [datasets["train"]] if "train" in datasets else list(datasets.values())
    boxes, labels = relative_boxes(chosen)
    if len(boxes) == 0:
        return None
    if len(boxes) > _RECALL_OBJECTS:
        rows = np.random.default_rng(0).choice(len(boxes), _RECALL_OBJECTS, replace=False)
        boxes, labels = boxes[rows], labels[rows]
    recall = anchor_recall(
        boxes, anchors_xyxy, labels=labels, class_names=chosen[0].class_names, match_iou=match_iou
    )
    weak = [
        row for row in (recall.total, *recall.by_class) if row.recall < 0.9 and row.objects >= 5
    ]
    for row in weak:
        ward.note(
            "warning",
            "objects_without_anchor",
            f"no anchor of the model overlaps these objects by {match_iou:g}",
            f"{row.name}: {1 - row.recall:.0%} of {row.objects}",
            "train with --anchors fit, or at a larger size",
        )
    return recall
