"""The Python side of the command line: `import flyweight as fw`, then `fw.load`, `fw.train` ...

Each function does what the verb of its name does, on the same functions of the rooms below.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flyweight.core.detections import Predictor
    from flyweight.data.records import DetectionDataset
    from flyweight.evaluation.coco_ap import EvaluationResult
    from flyweight.export.export import ExportedFile
    from flyweight.models.detectors.detector import Detector
    from flyweight.training.run import TrainedRun

PathLike = str | os.PathLike[str]


def load(path: PathLike, **options: Any) -> Any:
    """Open a model file.

    Args:
        path: `.onnx` or `.xml` (no torch is loaded), or a `.safetensors` checkpoint.
        options: `threads` and `runtime` for exported files, `device` for checkpoints.

    Returns:
        A `flyweight.runtime.predictor.Predictor`, or for a checkpoint a
        `flyweight.models.detectors.detector.Detector`. Both have `predict(image)` and
        `predict_batch(images)`.

    Raises:
        InputError: the file is missing, broken, or not one of ours.
    """
    if Path(path).suffix == ".safetensors":
        from flyweight.models.detectors import checkpoint

        return checkpoint.load(path, **options)
    from flyweight.runtime.load import load_predictor

    return load_predictor(path, **options)


def build(name: str, **options: Any) -> Detector:
    """A detector of the zoo, ready to be trained: see `flyweight.models.detectors.zoo.build`."""
    from flyweight.models.detectors.zoo import build as build_detector

    return build_detector(name, **options)


def train(model: PathLike, data: PathLike, out: PathLike, **options: Any) -> TrainedRun:
    """Train on a folder of labelled images: see `flyweight.training.run.train_on_folder`.

    Args:
        model: a name of the zoo, or a checkpoint to go on from.
        data: a data set's folder, in any format that `open_dataset` reads.
        out: the run's folder.
        options: `size`, `width`, `pretrained`, `anchors`, `resume`, and every field of
            `flyweight.training.recipe.Recipe`, such as `epochs=50`.
    """
    from flyweight.training.run import train_on_folder

    return train_on_folder(model, data, out, **options)


def evaluate(predictor: Predictor, dataset: DetectionDataset, **options: Any) -> EvaluationResult:
    """COCO AP of anything that predicts: see `flyweight.evaluation.evaluate.evaluate`."""
    from flyweight.evaluation.evaluate import evaluate as evaluate_predictor

    return evaluate_predictor(predictor, dataset, **options)


def export(detector: Detector, *arguments: Any, **options: Any) -> list[ExportedFile]:
    """Write checked files for runtimes: see `flyweight.export.export.export`."""
    from flyweight.export.export import export as export_detector

    return export_detector(detector, *arguments, **options)
