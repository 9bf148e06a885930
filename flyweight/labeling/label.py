"""From a folder of pictures that nobody has labelled to a data set that trains like any other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight import __version__
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.data.image_files import is_inside
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.pseudo_labels import LabelCounts, write_coco
from flyweight.labeling.review_file import FolderOfLabels
from flyweight.labeling.review_merge import kept_reviews
from flyweight.labeling.shards import BATCH, SHARD_IMAGES, Engine, read_shards, write_shards
from flyweight.labeling.thresholds import (
    UNCERTAIN,
    ClassThreshold,
    calibrate,
    calibrate_on_pictures,
    check_shares,
)
from flyweight.runtime.sources import image_files

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LabelledFolder:
    """What a run left.

    Attributes:
        root: the new data set.
        annotations: its COCO file.
        thresholds: of all classes.
        counts: what was written.
        new_images: pictures that have come since the run was started: they are not labelled.
    """

    root: Path
    annotations: Path
    thresholds: tuple[ClassThreshold, ...]
    counts: LabelCounts
    new_images: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "out": str(self.root),
            "annotations": str(self.annotations),
            "images": self.counts.images,
            "empty": self.counts.empty,
            "reviewed": self.counts.reviewed,
            "missing": self.counts.missing,
            "new_images": self.new_images,
            "classes": [
                each.to_dict() | {"labels": labels, "ignored": ignored}
                for each, labels, ignored in zip(
                    self.thresholds,
                    self.counts.objects.tolist(),
                    self.counts.uncertain.tolist(),
                    strict=True,
                )
            ],
        }


class LabelFolder:
    """The files of a run.

    `annotations/instances_train.json` and `images/train/` are the data set; `shards/` and
    `calibration/` are what the teachers said, `pictures.txt` and `settings.json` what was asked.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        labels = FolderOfLabels(root)
        self.annotations, self.images = labels.annotations, labels.images
        self.shards = root / "shards"
        self.calibration = root / "calibration"
        self.pictures = root / "pictures.txt"
        self.settings = root / "settings.json"

    def start(self, images: Path, settings: dict[str, Any]) -> tuple[list[str], int]:
        """Names of the pictures of the run, new or gone on with; and how many have come since.

        Raises:
            InputError: `images` has no pictures, or the folder holds something else.
        """
        if not images.is_dir():
            raise InputError("no such folder", where=images, fix="name a folder of pictures")
        if is_inside(self.root, images):
            raise InputError(
                "the labels would lie among the pictures", where=self.root, fix="give another --out"
            )
        self._check_settings(settings)
        present = [path.relative_to(images).as_posix() for path in image_files(images)]
        if self.pictures.is_file():
            names = self.pictures.read_text(encoding="utf-8").splitlines()
            return names, len(set(present) - set(names))
        with write_atomically(self.settings) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        with write_atomically(self.pictures) as temporary:
            temporary.write_text("\n".join(present) + "\n", encoding="utf-8")
        return present, 0

    def _check_settings(self, settings: dict[str, Any]) -> None:
        if not self.settings.is_file():
            if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
                raise InputError(
                    "the output folder is not empty", where=self.root, fix="name a new folder"
                )
            return
        known = json.loads(self.settings.read_text(encoding="utf-8"))
        for name, value in json.loads(json.dumps(settings)).items():
            if known.get(name) != value:
                raise InputError(
                    f"the labels in this folder were begun with other {name.replace('_', ' ')}",
                    where=self.root,
                    fix="give the same as before, or a new --out",
                )


def label_folder(
    images: Path,
    out: Path,
    labeler: Labeler,
    labelled: DetectionDataset,
    *,
    precision: float | None = None,
    count_on_pictures: bool = False,
    uncertain: float = UNCERTAIN,
    batch: int = BATCH,
    shard_images: int = SHARD_IMAGES,
    copy: bool = False,
    engine: Engine = write_shards,
    progress: Progress = lambda what, done, total: None,
) -> LabelledFolder:
    """Label the pictures below `images` and write the data set `out`, which `train` takes.

    A run that was stopped goes on where it was when it is called again; the result is the same.
    Thresholds may then be others: they need no teacher. Pictures on which a person has decided
    something (`review_folder`) keep their labels.

    Args:
        labeler: the teachers, for the classes of `labelled`.
        labelled: labelled images that the teachers have not learnt from, for the thresholds.
        precision, uncertain: see `calibrate`.
        count_on_pictures: thresholds by `calibrate_on_pictures`; `labelled` may then be images that
            the teachers have learnt from.
        copy: of the pictures, in place of hard links.
        engine: does the labelling, here or on other machines; another may go on with a run.
        progress: is told what is done, how many pictures of how many.

    Raises:
        InputError: nothing to label, or to calibrate on; other settings than the run was begun
            with; somebody is reviewing the labels; the disk is full: finished shards stay.
    """
    check_shares(precision, uncertain)  # before an hour of work, not after
    if count_on_pictures and precision is not None:
        raise InputError(
            "precision is found on labelled images", where="precision", fix="ask for one of the two"
        )
    images, folder = images.absolute(), LabelFolder(out.absolute())  # the same in other processes
    settings = labeler.describe() | {
        "class_names": list(labelled.class_names),
        "pictures": str(images.resolve()),
        "shard": shard_images,
        "labelled_slice": [labelled.root.name, labelled.split, len(labelled)],
    }
    names, new_images = folder.start(images, settings)
    write = partial(engine, labeler=labeler, shard_images=shard_images, batch=batch)
    if not count_on_pictures:
        thresholds = _calibrate(
            folder,
            labelled,
            partial(write, progress=lambda done: progress("calibrating", done, len(labelled))),
            precision=precision,
            uncertain=uncertain,
        )
    shards = write(
        ((name, images / name) for name in names),
        folder=folder.shards,
        keep=partial(_place, folder.images, copy=copy),
        progress=lambda done: progress("labelling", done, len(names)),
    )
    if count_on_pictures:
        found = (row.boxes.detections for row in read_shards(shards) if row.problem is None)
        thresholds = calibrate_on_pictures(labelled, found, uncertain=uncertain)
    info = {
        "description": "labels made by teachers",
        "flyweight": __version__,
        **labeler.describe(),
        "calibrated_on": settings["labelled_slice"],
        "asked_precision": precision,
        "counted_on_pictures": count_on_pictures,
        "thresholds": [each.to_dict() for each in thresholds],
    }
    with kept_reviews(out) as reviewed:
        counts = write_coco(
            folder.annotations,
            lambda: read_shards(shards),
            thresholds,
            labeler.teachers_of,
            teachers=[teacher.name for teacher in labeler.teachers],
            info=info,
            reviewed=reviewed,
        )
    return LabelledFolder(out, folder.annotations, thresholds, counts, new_images)


def _calibrate(
    folder: LabelFolder,
    labelled: DetectionDataset,
    write: Callable[..., list[Path]],
    *,
    precision: float | None,
    uncertain: float,
) -> tuple[ClassThreshold, ...]:
    """The thresholds on the labelled slice, whose boxes are kept in shards of their own."""
    pictures = ((record.path.name, record.path) for record in labelled.records)
    rows = list(read_shards(write(pictures, folder=folder.calibration)))
    for row in rows:
        if row.problem is not None:
            raise InputError(
                f"a labelled picture cannot be read: {row.problem}",
                where=labelled.root / row.name,
                fix="bring it back, and give a new --out",
            )
    return calibrate(
        labelled, [row.boxes.detections for row in rows], precision=precision, uncertain=uncertain
    )


def _place(folder: Path, name: str, source: Path, *, copy: bool) -> None:
    """Bring a picture into the data set: a hard link where the disk can, else a copy.

    Raises:
        FileNotFoundError: it is gone.
    """
    target = folder / name
    if target.exists():
        return
    if not source.is_file():
        raise FileNotFoundError(source)
    if not copy:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
            return
        except OSError:
            pass  # another disk, or a file system without hard links
    with write_atomically(target) as temporary:
        shutil.copyfile(source, temporary)
