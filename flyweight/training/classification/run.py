"""From a backbone's name and a folder of images to a file that `--pretrained` takes.

What `flyweight pretrain` and `flyweight.pretrain` both call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.checkpoint import CLASSIFIER
from flyweight.models.detectors.zoo import checked_size
from flyweight.training.classification.labelled_images import open_labelled_images
from flyweight.training.classification.loop import train_classifier
from flyweight.training.classification.network import (
    ImageClassifier,
    build_image_classifier,
    check_input,
)
from flyweight.training.classification.recipe import OWN, ClassificationRecipe
from flyweight.training.model_choice import Note, listed
from flyweight.training.run_folder import RunFolder

DEFAULT_SIZE = 128


@dataclass(frozen=True)
class PretrainedRun:
    """What a pretraining run left.

    Attributes:
        run: its folder.
        checkpoint: the weights that were best on the validation images, for `--pretrained`.
        metrics: "top1" and "balanced_accuracy" of `checkpoint` on the validation images.
        images_per_second: training speed, without evaluation.
        epochs: epochs trained.
        best_epoch: the epoch that `checkpoint` comes from.
        backbone: its name.
        width: its width multiplier.
        classes: names, in the order of the logits.
        images: how many there are to train ("train") and to choose on ("val").
        notes: what was decided on the way and is worth knowing.
    """

    run: Path
    checkpoint: Path
    metrics: dict[str, float]
    images_per_second: float
    epochs: int
    best_epoch: int
    backbone: str
    width: float
    classes: tuple[str, ...]
    images: dict[str, int]
    notes: tuple[str, ...] = ()


def pretrain(
    backbone: str,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    width: float | None = None,
    size: int | None = None,
    norm: str | None = None,
    pretrained: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    note: Note | None = None,
    resume_command: str = "the same command with --resume",
    **settings: Any,
) -> PretrainedRun:
    """Train a backbone as a classifier on the images in `data` and leave it in the folder `out`.

    Args:
        backbone: a name of `flyweight.models.backbones`.
        data: folders of classes (with `train/` and `val/` above them or not), or a COCO, VOC or
            YOLO data set, whose objects are cut out.
        out: the run's folder.
        width: multiplier of the channels; 1 by default.
        size: side of the input in pixels; 128 by default.
        norm: of the backbone: "batch", "group" or "none"; by default what detectors over it have.
        pretrained: "imagenet", "none" or a file of weights to start from; "none" by default.
        resume: go on with the run in `out`; settings that are not given are the run's own.
        overwrite: replace the run in `out`.
        progress: False shows nothing; None a bar on a terminal and lines elsewhere.
        note: is told what was decided on the way, line by line.
        resume_command: what to tell the user when the run is interrupted.
        settings: fields of `ClassificationRecipe`, such as `epochs=50`.

    Raises:
        InputError: the backbone, the data, a setting or the folder cannot be used.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        if note is not None:
            note(text)

    folder = RunFolder(Path(out))
    saved = _saved_config(folder) if resume else None
    recipe = _recipe(settings, saved, folder)
    shape: dict[str, Any] = {
        "width": 1.0 if width is None else width,
        "size": DEFAULT_SIZE if size is None else size,
    }
    # a million images take a while to be listed: what is wrong with the network comes first
    check_input(backbone, **shape)
    train_set, val_set = open_labelled_images(
        data,
        context=recipe.context,
        background=recipe.background,
        seed=recipe.seed,
        note=tell,
    )
    if saved is None:
        torch.manual_seed(recipe.seed)
        network = build_image_classifier(
            backbone,
            classes=train_set.class_names,
            norm=norm,
            pretrained=pretrained or "none",
            **shape,
        )
    else:
        asked = {
            "backbone": backbone,
            "width": width,
            "size": size and checked_size(size),
            "backbone_norm": norm,
        }
        network = _saved_network(saved, asked, train_set, folder)
    outcome = train_classifier(
        network,
        train_set,
        val_set,
        recipe,
        folder,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        resume_command=resume_command,
    )
    return PretrainedRun(
        run=folder.path,
        checkpoint=outcome.best_checkpoint,
        metrics=outcome.metrics,
        images_per_second=outcome.images_per_second,
        epochs=outcome.epochs,
        best_epoch=outcome.best_epoch,
        backbone=network.config.backbone,
        width=network.config.width,
        classes=network.class_names,
        images={"train": len(train_set), "val": len(val_set)},
        notes=tuple(notes),
    )


def _recipe(
    settings: Mapping[str, Any], saved: Mapping[str, Any] | None, folder: RunFolder
) -> ClassificationRecipe:
    """The recipe of a new run, or that of the saved one changed by what the user gave."""
    if saved is None:
        return ClassificationRecipe.from_dict(settings)
    own = saved["recipe"]
    _check_unchanged({name: settings.get(name) for name in OWN}, own, folder)
    return ClassificationRecipe.from_dict({**own, **settings})


def _saved_network(
    saved: Mapping[str, Any],
    asked: Mapping[str, Any],
    train_set: DetectionDataset,
    folder: RunFolder,
) -> ImageClassifier:
    """The network of the saved run, as it was built; its weights come with the state."""
    manifest = Manifest.from_json(json.dumps(saved["model"]), where=str(folder.config))
    own = {**manifest.model, "size": manifest.preprocessing.size_hw}
    _check_unchanged(asked, own, folder)
    if manifest.class_names != train_set.class_names:
        raise InputError(
            f"the run in this folder learns {listed(manifest.class_names)}, the data has "
            f"{listed(train_set.class_names)}",
            where=folder.path,
            fix="give the data that the run was started with",
        )
    return ImageClassifier.from_manifest(manifest)


def _check_unchanged(asked: Mapping[str, Any], own: Mapping[str, Any], folder: RunFolder) -> None:
    """That what the user gave (not None) is what the run was started with."""
    for name, value in asked.items():
        if value is not None and value != own[name]:
            raise InputError(
                f"the run in this folder was started with {name} {own[name]}, not {value}",
                where=folder.path,
                fix=f"leave {name} out, or give another --out",
            )


def _saved_config(folder: RunFolder) -> dict[str, Any]:
    content = folder.saved_config()
    if content["model"].get("model", {}).get("family") != CLASSIFIER:
        raise InputError(
            "this is not the config of a pretraining run",
            where=folder.config,
            fix="start the run anew",
        )
    return content
