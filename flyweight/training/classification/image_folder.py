"""Folders of pictures sorted by class, in torchvision's `ImageFolder` layout.

What is labelled is a region of a picture, here the whole of it: a `Record` with one box. So the
same code trains on such folders and on the objects of a detection data set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flyweight.core.errors import InputError
from flyweight.core.image import image_size_hw
from flyweight.data.image_files import is_image_name
from flyweight.data.records import DetectionDataset, Record, split_words
from flyweight.training.model_choice import Note

LAYOUT = "one folder a class with its images, or train/ and val/ that hold such folders"


def open_image_folder(
    root: Path, *, fraction: float = 0.15, seed: int = 0, note: Note = lambda text: None
) -> tuple[DetectionDataset, DetectionDataset]:
    """The images to train on and those to choose on, one region a record.

    Without a folder `val` (or `valid`, ...) a share `fraction` of every class is set aside.

    Raises:
        InputError: there are no images, an image cannot be read, or `val` has another class.
    """
    train_folder = _split_folder(root, "train")
    val_folder = _split_folder(root, "val")
    whole = replace(read_class_folders(train_folder or root, "train"), root=root)
    if train_folder is not None and val_folder is not None:
        val_set = read_class_folders(val_folder, "val").remap(whole.class_names)
        return whole, replace(val_set, root=root)
    train_set, val_set = split_by_class(whole, fraction, seed=seed)
    note(
        f"the folder has no val: {len(val_set)} of its images, {fraction:.0%} of each class, are "
        f"set aside to choose the best weights on, {len(train_set)} are trained on"
    )
    return train_set, val_set


def _split_folder(root: Path, split: str) -> Path | None:
    """The folder of a split, if it holds folders of classes and is not one itself."""
    folders = (root / word for word in split_words(split))
    return next((folder for folder in folders if folder.is_dir() and images_by_class(folder)), None)


def read_class_folders(root: Path, split: str) -> DetectionDataset:
    """The images below `root`; classes are its folders by name, as `ImageFolder` sorts them.

    Folders without images are no classes.
    """
    files = images_by_class(root)
    if not files:
        raise InputError("no images in folders of classes", where=root, fix=f"give {LAYOUT}")
    # one flag for all: a million images are a million records
    no = np.zeros(1, dtype=bool)
    records = []
    for label, paths in enumerate(files.values()):
        labels = np.array([label], dtype=np.int64)
        for path in paths:
            height, width = image_size_hw(path)
            records.append(
                Record(
                    image_id=path.relative_to(root).as_posix(),
                    path=path,
                    size_hw=(height, width),
                    boxes_xyxy=np.array([[0, 0, width, height]], dtype=np.float32),
                    labels=labels,
                    crowd=no,
                    difficult=no,
                )
            )
    return DetectionDataset(tuple(records), tuple(files), root, split, "folders")


def images_by_class(root: Path) -> dict[str, list[Path]]:
    """Class → its image files at any depth, both sorted; hidden folders are passed over."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    found = {folder.name: _images_below(folder) for folder in folders}
    return {name: paths for name, paths in found.items() if paths}


def _images_below(folder: Path) -> list[Path]:
    return [
        Path(parent, name)
        for parent, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if is_image_name(name)
    ]


def split_by_class(
    dataset: DetectionDataset, fraction: float = 0.15, *, seed: int = 0
) -> tuple[DetectionDataset, DetectionDataset]:
    """Train and val, with a share `fraction` of every class in val, to the nearest record.

    Of a class of two or more each side gets one at least; a single record is trained on. Each
    record has one label. The same seed gives the same split; records keep their order.
    """
    rng = np.random.default_rng(seed)
    labels = region_labels(dataset.records)
    held_out = np.zeros(len(dataset), dtype=bool)
    for label in range(len(dataset.class_names)):
        members = np.flatnonzero(labels == label)
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held_out[rng.permutation(members)[: max(count, 0)]] = True
    training = dataset.subset(np.flatnonzero(~held_out))
    validation = dataset.subset(np.flatnonzero(held_out))
    return replace(training, split="train"), replace(validation, split="val")


def region_labels(records: Sequence[Record]) -> np.ndarray:
    """`[N]` int64, the label of each record's one region."""
    return np.array([record.labels[0] for record in records], dtype=np.int64)
