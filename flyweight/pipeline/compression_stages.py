"""The stages of compression: each takes the file of the one before and leaves its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyweight.compression.fold import fold, unfolded_norms
from flyweight.compression.prune import Scope
from flyweight.compression.prune_batches import labelled_batches
from flyweight.compression.prune_gradually import prune_gradually
from flyweight.compression.prune_importance import ImportanceKind
from flyweight.compression.prune_target import Target
from flyweight.compression.quantise_aware import fine_tune_for_int8, int8_recipe
from flyweight.compression.stages import Say, Stage
from flyweight.core.errors import InputError
from flyweight.core.file_digest import file_sha256
from flyweight.export.export import export
from flyweight.export.int8 import Calibration
from flyweight.export.onnx import to_onnx
from flyweight.models.detectors import checkpoint
from flyweight.training.run import train_on_folder, training_splits

CHECKPOINT = "model.safetensors"
# Lies beside a checkpoint that was trained with the roundings of int8: the ranges it knows.
RANGES = "int8_ranges.json"


@dataclass(frozen=True)
class Pruning:
    """How channels are chosen: see `flyweight.compression.prune.prune`.

    Attributes:
        importance, scope: see there.
        rounds: in each of which "taylor" is measured anew.
        images: labelled ones that it reads.
    """

    importance: ImportanceKind = "taylor"
    scope: Scope = "global"
    rounds: int = 3
    images: int = 64


def prune_stage(target: Target, pruning: Pruning, data: Path) -> Stage:
    """Channels go until the detector costs what `target` allows."""

    def make(before: Path, folder: Path, say: Say) -> Path:
        train = training_splits(data)[0]
        pruned = prune_gradually(
            checkpoint.load(before),
            target,
            # What weights alone tell does not change between rounds.
            rounds=pruning.rounds if pruning.importance == "taylor" else 1,
            batches=lambda detector: labelled_batches(detector, train, images=pruning.images),
            importance=pruning.importance,
            scope=pruning.scope,
            by_saving=True if target.unit == "ms" else None,
        )
        gone, of = pruned.channels
        say(
            f"{target.shown(pruned.before)} to {target.shown(pruned.after)}: "
            f"{gone} of {of} channels are gone"
        )
        checkpoint.save(pruned.detector, folder / CHECKPOINT)
        return folder / CHECKPOINT

    return Stage("pruned", target.to_dict() | vars(pruning) | {"data": str(data)}, make)


def fine_tune_stage(
    data: Path, *, epochs: int, lr: float | None, teacher: Path | None, kinds: tuple[str, ...]
) -> Stage:
    """Training goes on from what is left, with a teacher where there is one."""
    settings: dict[str, Any] = {"epochs": epochs} | ({} if lr is None else {"lr": lr})
    known: dict[str, Any] = dict(settings)
    if teacher is not None:
        settings |= {"teacher": str(teacher), "distill": kinds}
        known |= {"teacher": file_sha256(teacher), "distill": list(kinds)}

    def make(before: Path, folder: Path, say: Say) -> Path:
        run = folder / "run"
        begun = (run / "resume.pt").is_file()
        trained = train_on_folder(
            before, data, run, resume=begun, overwrite=not begun, note=say, **settings
        )
        return trained.checkpoint

    return Stage("fine-tuned", known | {"data": str(data)}, make, goes_on=True)


def fold_stage() -> Stage:
    """Norms go into the layers before them."""

    def make(before: Path, folder: Path, say: Say) -> Path:
        folded = fold(checkpoint.load(before))
        if unfolded_norms(folded):
            raise InputError("a BatchNorm of this model cannot be folded", where=before)
        checkpoint.save(folded, folder / CHECKPOINT)
        return folder / CHECKPOINT

    return Stage("folded", {}, make)


def quantisation_aware_stage(data: Path, *, epochs: int, teacher: Path | None) -> Stage:
    """Training with the roundings of int8; what it leaves is a plain, folded checkpoint."""
    recipe = int8_recipe(epochs=epochs, teacher="" if teacher is None else str(teacher))

    def make(before: Path, folder: Path, say: Say) -> Path:
        detector = checkpoint.load(before)
        train, val, _ = training_splits(data)
        graph = to_onnx(detector)
        calibration = Calibration(graph, train, preprocessing=detector.preprocessing, say=say)
        run = folder / "run"
        begun = (run / "resume.pt").is_file()
        trained = fine_tune_for_int8(
            detector,
            train.remap(detector.class_names),
            val.remap(detector.class_names),
            recipe,
            run,
            graph=graph,
            ranges=calibration.ranges,
            resume=begun,
            overwrite=not begun,
        )
        shutil.copyfile(trained.best_checkpoint, folder / CHECKPOINT)
        ranges = {name: list(map(float, ends)) for name, ends in calibration.ranges.items()}
        (folder / RANGES).write_text(json.dumps(ranges), encoding="utf-8")
        return folder / CHECKPOINT

    known = recipe.to_dict() | {"teacher": None if teacher is None else file_sha256(teacher)}
    return Stage("int8-aware", {"recipe": known, "data": str(data)}, make, goes_on=True)


def quantise_stage(data: Path, *, to: str, precision: str, max_loss: float) -> Stage:
    """An exported file of a lower precision."""

    def make(before: Path, folder: Path, say: Say) -> Path:
        trained = before.with_name(RANGES)
        known = json.loads(trained.read_text(encoding="utf-8")) if trained.is_file() else None
        files = export(
            checkpoint.load(before),
            [to],
            folder,
            precision=precision,
            max_loss=max_loss,
            data=data,
            ranges=known if precision == "int8" else None,
            name="model",
            say=say,
        )
        kept = files[0].kept_float
        if kept:
            say(f"{len(kept)} layers stay in float: {', '.join(kept[:4])} ...")
        return files[0].path

    return Stage(precision, {"to": to, "max_loss": max_loss, "data": str(data)}, make)
