"""What a run was made from: what `config.yaml` says, and what a checkpoint says of its data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flyweight.models.detectors.detector import Detector
from flyweight.training.elastic import launch_id
from flyweight.training.recipe import Recipe

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset


def data_lineage(
    dataset: DetectionDataset, extra: DetectionDataset | None = None
) -> dict[str, Any]:
    """Where the training images came from. No path: checkpoints are passed on to others."""
    lineage: dict[str, Any] = {
        "name": dataset.root.name,
        "format": dataset.format,
        "split": dataset.split,
        "images": len(dataset),
    }
    return lineage if extra is None else lineage | {"extra": data_lineage(extra)}


def run_config(
    detector: Detector,
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    recipe: Recipe,
    extra: DetectionDataset | None = None,
) -> dict[str, Any]:
    """The content of `config.yaml`: recipe, model, data, and the `torchrun` that began it."""
    launch = launch_id()
    return {
        "recipe": recipe.to_dict(),
        "model": json.loads(detector.manifest().to_json()),
        "data": {
            "root": str(train_set.root),
            "train": data_lineage(train_set, extra),
            "val": None if val_set is None else data_lineage(val_set),
        },
        **({} if launch is None else {"launch": launch}),
    }
