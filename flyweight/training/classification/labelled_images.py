"""Opening what a classifier is trained on: folders of classes, or the objects of detection data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from flyweight.core.errors import InputError
from flyweight.data.formats import FORMATS, detect_format
from flyweight.data.image_files import existing_folder
from flyweight.data.records import DetectionDataset
from flyweight.training.classification.image_folder import (
    LAYOUT,
    images_by_class,
    open_image_folder,
    region_labels,
)
from flyweight.training.classification.object_crops import object_crops
from flyweight.training.model_choice import Note, listed
from flyweight.training.run import training_splits


def open_labelled_images(
    root: str | os.PathLike[str],
    *,
    context: float = 0.15,
    background: bool = True,
    seed: int = 0,
    note: Note = lambda text: None,
) -> tuple[DetectionDataset, DetectionDataset]:
    """The images to train on and those to choose on: records of one box, the labelled region.

    Args:
        root: a COCO, VOC or YOLO data set, whose objects are cut out and whose splits hold, or
            folders of classes (see `open_image_folder`).
        context, background: of cut-out objects, see `object_crops`.
        seed: of what is set aside where there is no split val, and of the background.
        note: is told what was decided on the way.

    Raises:
        InputError: there are no images, or fewer than two classes of them.
    """
    folder = existing_folder(Path(root))
    if _is_detection_data(folder):
        train_set, val_set, _ = training_splits(folder, seed=seed, note=note)
        train_set, val_set = (
            object_crops(split, context=context, background=background, seed=seed)
            for split in (train_set, val_set)
        )
    elif images_by_class(folder):
        train_set, val_set = open_image_folder(folder, seed=seed, note=note)
    else:
        raise InputError(
            "neither folders of classes nor a detection data set",
            where=folder,
            fix=f"give {LAYOUT}; or a data set in {', '.join(FORMATS)}",
        )
    return _with_trained_classes(train_set, val_set, note)


def _is_detection_data(folder: Path) -> bool:
    try:
        detect_format(folder)
    except InputError:
        return False
    return True


def _with_trained_classes(
    train_set: DetectionDataset, val_set: DetectionDataset, note: Note
) -> tuple[DetectionDataset, DetectionDataset]:
    """Both without the classes that have nothing to train on."""
    names = train_set.class_names
    counts = np.bincount(region_labels(train_set.records), minlength=len(names))
    kept = [name for name, count in zip(names, counts, strict=True) if count]
    if len(kept) < 2:
        raise InputError(
            f"there is only one class, {kept[0]}" if kept else "there are no images to train on",
            where=train_set.root,
            fix="a classifier tells two or more classes apart: add images of another",
        )
    if len(kept) < len(names):
        absent = [name for name in names if name not in kept]
        note(f"no training image shows {listed(absent)}: left out")
        val_set = val_set.subset(np.flatnonzero(counts[region_labels(val_set.records)]))
    if not len(val_set):
        raise InputError(
            "there are no images to choose the best weights on",
            where=train_set.root,
            fix="add a second image of each class, or images to val",
        )
    return train_set.remap(kept), val_set.remap(kept)
