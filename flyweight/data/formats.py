"""Opening a data set without being told its format, splitting it, and writing it in another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flyweight.core.errors import InputError
from flyweight.data.coco import coco_splits, load_coco, save_coco
from flyweight.data.image_files import existing_folder, is_image_name
from flyweight.data.records import DetectionDataset, ProblemHandler
from flyweight.data.voc import load_voc, save_voc, voc_splits
from flyweight.data.yolo import load_yolo, save_yolo, yolo_splits
from flyweight.data.yolo_yaml import find_data_yaml

_LOADERS: dict[str, Callable[..., DetectionDataset]] = {
    "coco": load_coco,
    "voc": load_voc,
    "yolo": load_yolo,
}
_SAVERS: dict[str, Callable[..., Path]] = {"coco": save_coco, "voc": save_voc, "yolo": save_yolo}
_SPLITS: dict[str, Callable[[Path], list[str]]] = {
    "coco": coco_splits,
    "voc": voc_splits,
    "yolo": yolo_splits,
}

FORMATS = tuple(_LOADERS)


def open_dataset(
    root: str | Path,
    split: str | None = None,
    *,
    data_format: str | None = None,
    on_problem: ProblemHandler | None = None,
) -> DetectionDataset:
    """Read a split of the data set in the folder ``root``: ``train``, ``val`` or ``test``.

    ``split`` may be a synonym (``valid``), ``trainval``, or None for all of it. Without
    ``on_problem``, the first annotation that cannot be used is an ``InputError``; with it, each is
    reported there and passed over.
    """
    root = existing_folder(root)
    return _LOADERS[data_format or detect_format(root)](root, split, on_problem=on_problem)


def detect_format(root: str | Path) -> str:
    """``coco``, ``voc`` or ``yolo``, by the files that only that format has."""
    root = existing_folder(root)
    if voc_splits(root):
        return "voc"
    if coco_splits(root):
        return "coco"
    if find_data_yaml(root) is not None:
        return "yolo"
    names = [name for _, _, files in os.walk(root) for name in files]
    if not names:
        raise InputError("the data set is empty", where=str(root), fix=_FIX)
    images = sum(map(is_image_name, names))
    what = f"{images} images and no annotations" if images else "no images and no annotations"
    raise InputError(what, where=str(root), fix=_FIX)


_FIX = (
    "COCO has annotations/*.json, VOC has Annotations/*.xml beside JPEGImages/, YOLO has data.yaml"
)


def available_splits(root: str | Path) -> list[str]:
    """The splits that the data set has, in the order train, val, test."""
    root = existing_folder(root)
    return _SPLITS[detect_format(root)](root)


def split_for_validation(
    dataset: DetectionDataset, fraction: float = 0.15, seed: int = 0
) -> tuple[DetectionDataset, DetectionDataset]:
    """Two data sets, train and val, of a data set without a ``val`` split.

    The same seed and number of images give the same split; records keep their order. At least
    one image goes to each side.
    """
    count = len(dataset)
    if count < 2:
        raise InputError(
            "one image cannot be split into train and val",
            where=str(dataset.root),
            fix="add images, or a val split of its own",
        )
    if not 0 < fraction < 1:
        raise InputError(
            f"the share for validation is {fraction}", fix="choose one between 0 and 1"
        )
    held_out = min(max(round(count * fraction), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    validation = dataset.subset(np.sort(order[:held_out]))
    training = dataset.subset(np.sort(order[held_out:]))
    return replace(training, split="train"), replace(validation, split="val")


def open_splits(
    root: str | Path, *, on_problem: ProblemHandler | None = None
) -> dict[str, DetectionDataset]:
    """Every split of the data set by its name."""
    root = existing_folder(root)
    name = detect_format(root)
    return {
        split: _LOADERS[name](root, split, on_problem=on_problem) for split in _SPLITS[name](root)
    }


def save_dataset(
    splits: DetectionDataset | Mapping[str, DetectionDataset],
    out_dir: str | Path,
    *,
    data_format: str,
    link: bool = False,
) -> Path:
    """Write splits as ``coco``, ``voc`` or ``yolo`` into a new folder, which appears when complete.

    What each format cannot hold is listed at ``save_coco``, ``save_voc`` and ``save_yolo``.
    """
    if data_format not in _SAVERS:
        raise InputError(
            f"unknown data format '{data_format}'", fix=f"known are {', '.join(FORMATS)}"
        )
    return _SAVERS[data_format](splits, out_dir, link=link)


def convert_dataset(
    root: str | Path,
    out_dir: str | Path,
    *,
    data_format: str,
    link: bool = False,
    on_problem: ProblemHandler | None = None,
) -> dict[str, DetectionDataset]:
    """Read every split under ``root`` and write it in another format; returns what was written."""
    splits = open_splits(root, on_problem=on_problem)
    save_dataset(splits, out_dir, data_format=data_format, link=link)
    return splits
