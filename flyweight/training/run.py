"""From a model's name and a folder of labelled images to a trained checkpoint.

What `flyweight train` and `flyweight.train` both call: data is opened, the detector is made for
its classes, the loop runs, and the best checkpoint is measured on the test images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest
from flyweight.data.formats import available_splits, open_dataset, split_for_validation
from flyweight.evaluation.evaluate import evaluate
from flyweight.models.detectors import checkpoint, zoo
from flyweight.training.auto_batch import with_largest_batch
from flyweight.training.elastic import goes_on
from flyweight.training.loop import train
from flyweight.training.model_choice import ModelChoice, Note, listed, make_detector
from flyweight.training.processes import process_rank
from flyweight.training.recipe import Recipe
from flyweight.training.recipes import named_recipe
from flyweight.training.result import FIGURES
from flyweight.training.run_folder import RunFolder

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset
    from flyweight.models.detectors.detector import Detector

# In place of a number of images: as many as fit.
AUTO = "auto"

# Edges and textures up to stride 4 are ImageNet's own in every picture: a few hundred images teach
# them nothing, and their backward pass is two fifths of a step's time (docs/experiments.md).
PRETRAINED_FROZEN_STAGES = 2


@dataclass(frozen=True)
class TrainedRun:
    """What a training run left.

    Attributes:
        run: its folder.
        checkpoint: the weights that were best on the validation images.
        metrics: "AP", "AP50", "AP75" of `checkpoint` on the validation images.
        test_metrics: the same on the test images; None when the data has none, and in all
            processes but the first.
        images_per_second: training speed, without evaluation.
        epochs: epochs trained.
        best_epoch: the epoch that `checkpoint` comes from.
        recipe: the settings of the run, by name.
        notes: what was decided on the way and is worth knowing.
    """

    run: Path
    checkpoint: Path
    metrics: dict[str, Any]
    test_metrics: dict[str, Any] | None
    images_per_second: float
    epochs: int
    best_epoch: int
    recipe: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.run),
            "checkpoint": str(self.checkpoint),
            "metrics": self.metrics,
            "test_metrics": self.test_metrics,
            "images_per_second": self.images_per_second,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "notes": list(self.notes),
        }


def train_on_folder(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    extra: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    width: float | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    anchors: str | None = None,
    normalise: str | None = None,
    recipe: str | None = None,
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    note: Note | None = None,
    resume_command: str | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train a detector on the data set in the folder `data` and leave it in the folder `out`.

    Trains on the split `train`, chooses on `val` (a part of `train` is set aside where there is
    none) and reports on `test` where there is one.

    Under `torchrun` it is called in every process. A restart by `torchrun --max-restarts` goes on
    with the run that the same launch began, without being told to.

    Args:
        model: a name of the zoo, a preset file, or a checkpoint to go on from, whose class head
            is replaced where the data has other classes.
        extra: a second data set of the same classes, whose split `train` is mixed in: `ratio`
            pictures of it for each of `data`. What `flyweight label` writes is one.
        size: side of the input in pixels; the model's own by default.
        width: channel multiplier; the model's own by default.
        pretrained: "imagenet", "none" or a file of weights, for the backbone.
        anchors: "published" default boxes, or boxes to "fit" the data.
        normalise: "data" scales channels by the training images' own mean and deviation.
        recipe: a name of `flyweight.training.recipes`, whose settings hold where none are given.
        options: other fields of the model's config, such as `{"backbone": "ghostnet"}`.
        resume: go on with the run in `out`; settings that are not given are the run's own.
        overwrite: replace the run in `out`.
        progress: False shows nothing; None a bar on a terminal and lines elsewhere.
        note: is told what was decided on the way, line by line.
        resume_command: what to tell the user when the run is interrupted.
        settings: fields of `Recipe`, such as `epochs=50`; `batch_size="auto"` takes the largest
            that fits, with its learning rate. Pretrained weights stay as they are in the first two
            stages unless `freeze_backbone_stages` says otherwise.

    Raises:
        InputError: the model, the data, a setting or the folder cannot be used.
        TrainingInterrupted: Ctrl-C; the state is saved.
        ProcessLostError: another process of the run has ended.
        ElsewhereError: another process of the run has failed and says why.
    """
    choice = ModelChoice(
        model,
        size=size,
        width=width,
        pretrained=pretrained,
        anchors=anchors,
        normalise=normalise,
        options=options or {},
    ).spelled_out()
    if recipe is not None and not resume:
        choice, settings = _by_name(recipe, choice, settings)
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        if note is not None and process_rank() == 0:
            note(text)

    folder = RunFolder(Path(out))
    if not resume and goes_on(folder):
        resume = True
        tell("torchrun has started the run again: it goes on from the last saved state")
    if choice.starts_pretrained and not resume:
        settings.setdefault("freeze_backbone_stages", PRETRAINED_FROZEN_STAGES)
    largest_batch = settings.get("batch_size") == AUTO
    if largest_batch:
        settings.pop("batch_size")
    chosen = _recipe_of(folder, settings) if resume else Recipe.from_dict(settings)
    train_set, val_set, test_set = training_splits(data, seed=chosen.seed, note=tell)
    extra_set = None if extra is None else extra_pictures(extra, train_set, note=tell)
    if resume:
        detector = _detector_of(folder, choice, train_set)
    else:
        torch.manual_seed(chosen.seed)
        detector = make_detector(choice, train_set, note=tell)
    if largest_batch and not resume:
        chosen = with_largest_batch(chosen, detector, train_images=len(train_set))
        tell(f"batches of {chosen.batch_size} images, learning rate {chosen.lr:.2g}")
    first = process_rank() == 0
    result = train(
        detector,
        train_set,
        val_set,
        chosen,
        folder.path,
        extra=extra_set,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        resume_command=resume_command,
    )
    return TrainedRun(
        run=result.run_dir,
        checkpoint=result.best_checkpoint,
        metrics={name: result.metrics.get(name) for name in FIGURES},
        test_metrics=_test(result.best_checkpoint, test_set, chosen) if first else None,
        images_per_second=result.images_per_second,
        epochs=result.epochs,
        best_epoch=int(result.metrics.get("epoch") or 0),
        recipe=chosen.to_dict(),
        notes=tuple(notes),
    )


def training_splits(
    data: str | os.PathLike[str], *, seed: int = 0, note: Note = lambda text: None
) -> tuple[DetectionDataset, DetectionDataset, DetectionDataset | None]:
    """The images to train on, to choose on, and to report on (None where there are none).

    Raises:
        InputError: there is no data set, or nothing in it to learn from.
    """
    root = Path(data)
    splits = available_splits(root)
    train_set = open_dataset(root, "train")
    if "val" in splits:
        val_set = open_dataset(root, "val")
    else:
        train_set, val_set = split_for_validation(train_set, seed=seed)
        note(
            f"the data has no split 'val': {len(val_set)} of its training images are set aside "
            f"to choose the best weights on, {len(train_set)} are trained on"
        )
    if not any(len(record.labels) for record in train_set.records):
        raise InputError(
            "the training images have no labelled object", where=root, fix="label some images"
        )
    return train_set, val_set, open_dataset(root, "test") if "test" in splits else None


def extra_pictures(
    data: str | os.PathLike[str],
    train_set: DetectionDataset,
    *,
    note: Note = lambda text: None,
) -> DetectionDataset:
    """The split `train` of the data set in the folder `data`, its classes in the order of
    `train_set`'s.

    Raises:
        InputError: there is no data set, or its classes are others.
    """
    extra = open_dataset(Path(data), "train")
    if set(extra.class_names) != set(train_set.class_names):
        raise InputError(
            f"the extra data has the classes {listed(extra.class_names)}, the labelled data "
            f"{listed(train_set.class_names)}",
            where=data,
            fix="give both the same classes",
        )
    note(f"{len(extra)} extra pictures are mixed in")
    return extra.remap(train_set.class_names)


def _by_name(
    name: str, choice: ModelChoice, settings: Mapping[str, Any]
) -> tuple[ModelChoice, dict[str, Any]]:
    """The choice and the settings with those of a named recipe where nothing else is given."""
    named = named_recipe(name)
    own = dict(named.settings)
    if not choice.starts_pretrained:
        own.pop("freeze_norms", None)  # random statistics are not worth keeping
    if not choice.is_file:
        family = zoo.family_of(os.fspath(choice.model)).name
        choice = replace(choice, options={**named.options.get(family, {}), **choice.options})
    return choice, {**own, **settings}


def _recipe_of(folder: RunFolder, settings: Mapping[str, Any]) -> Recipe:
    """The recipe of the run in `folder`, changed by what the user gave."""
    saved = folder.saved_config()["recipe"]
    return Recipe.from_dict({**saved, **settings})


def _detector_of(folder: RunFolder, choice: ModelChoice, train_set: DetectionDataset) -> Detector:
    """The detector of the run in `folder`, as it was built; its weights come with the state."""
    manifest = Manifest.from_json(
        json.dumps(folder.saved_config()["model"]), where=str(folder.config)
    )
    name = manifest.model.get("name")
    if not choice.is_file and name != os.fspath(choice.model):
        raise InputError(
            f"the run in this folder trains {name}, not {os.fspath(choice.model)}",
            where=folder.path,
            fix="give another --out, or resume with the run's own model",
        )
    own = {"size": manifest.preprocessing.size_hw, "width": manifest.model.get("width")}
    asked = {"size": choice.size and zoo.checked_size(choice.size), "width": choice.width}
    for option, value in choice.options.items():
        # The manifest has gone through YAML, which knows no tuples.
        own[option], asked[option] = manifest.model.get(option), json.loads(json.dumps(value))
    for option, value in asked.items():
        if value is not None and value != own[option]:
            raise InputError(
                f"the run in this folder was started with {option} {own[option]}, not {value}",
                where=folder.path,
                fix=f"leave {option} out, or give another --out",
            )
    if set(manifest.class_names) != set(train_set.class_names):
        raise InputError(
            f"the run in this folder learns {listed(manifest.class_names)}, the data has "
            f"{listed(train_set.class_names)}",
            where=folder.path,
            fix="give the data that the run was started with",
        )
    return checkpoint.rebuild(manifest, where=folder.config)


def _test(best: Path, test_set: DetectionDataset | None, recipe: Recipe) -> dict[str, Any] | None:
    if test_set is None:
        return None
    detector = checkpoint.load(best)
    figures = evaluate(detector, test_set, batch_size=recipe.batch_size).to_dict()
    return {name: figures[name] for name in FIGURES}
