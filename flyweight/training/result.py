"""What a training run leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyweight.training.run_folder import RunFolder

FIGURES = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class TrainingResult:
    """What a run left.

    Attributes:
        run_dir: its folder.
        best_checkpoint: the averaged weights of the best evaluated epoch.
        metrics: "AP", "AP50", "AP75" of `best_checkpoint` on the validation images, and "epoch".
        images_per_second: training speed without evaluation.
        epochs: epochs trained.
    """

    run_dir: Path
    best_checkpoint: Path
    metrics: dict[str, Any]
    images_per_second: float
    epochs: int


def training_result(
    folder: RunFolder, *, best_epoch: int, images_per_second: float, epochs: int
) -> TrainingResult:
    """The result of the run in `folder`, its figures from `metrics.jsonl`."""
    best = next((row for row in folder.read_metrics() if row["epoch"] == best_epoch), {})
    return TrainingResult(
        run_dir=folder.path,
        best_checkpoint=folder.best,
        metrics={name: best.get(name) for name in FIGURES} | {"epoch": best_epoch},
        images_per_second=round(images_per_second, 2),
        epochs=epochs,
    )
