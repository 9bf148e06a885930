"""The Python side of the command line: `import flyweight as fw`, then `fw.load`, `fw.train` ...

Each function does what the verb of its name does, on the same functions of the rooms below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from flyweight.core.detections import Predictor
    from flyweight.data.records import DetectionDataset
    from flyweight.evaluation.coco_ap import EvaluationResult
    from flyweight.evaluation.paired import Comparison
    from flyweight.export.export import ExportedFile
    from flyweight.labeling.label import LabelledFolder
    from flyweight.models.detectors.detector import Detector
    from flyweight.pipeline.compress import Compressed
    from flyweight.training.classification.run import PretrainedRun
    from flyweight.training.run import TrainedRun

PathLike = str | os.PathLike[str]


def load(
    path: PathLike,
    *,
    threads: int | None = None,
    runtime: str | None = None,
    device: str = "cpu",
) -> Predictor:
    """Open a model file.

    Args:
        path: `.onnx`, `.xml`, `.tflite` or `.param` (no torch is loaded), or a `.safetensors`
            checkpoint.
        threads: of one inference; the available cores by default.
        runtime: of exported files: `onnxruntime`, `openvino`, `litert` or `ncnn`.
        device: of checkpoints: `cpu`, `cuda`, `cuda:1` or `mps`.

    Returns:
        A `flyweight.runtime.predictor.Predictor`, or for a checkpoint a
        `flyweight.models.detectors.detector.Detector`.

    Raises:
        InputError: the file is missing, broken, or not one of ours; the device is not there.
    """
    from flyweight.core.manifest import CHECKPOINT_SUFFIX

    if Path(path).suffix != CHECKPOINT_SUFFIX:
        from flyweight.runtime.load import load_predictor

        return load_predictor(path, threads=threads, runtime=runtime)
    if runtime is not None:
        raise InputError(
            f"a checkpoint does not run in {runtime}",
            where=path,
            fix="export it first with `flyweight export`, or leave the runtime out",
        )
    import torch

    from flyweight.models.detectors import checkpoint

    detector = checkpoint.load(path, device=_checked_device(device))
    if threads is not None:
        torch.set_num_threads(threads)
    return detector


def _checked_device(device: str) -> str:
    import torch

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(f"unknown device '{device}'", fix="choose cpu, cuda, cuda:1 or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no CUDA device here", fix="use --device cpu")
    return device


def build(name: str, **options: Any) -> Detector:
    """A detector of the zoo, ready to be trained: see `flyweight.models.detectors.zoo.build`."""
    from flyweight.models.detectors.zoo import build as build_detector

    return build_detector(name, **options)


def pretrain(backbone: str, data: PathLike, out: PathLike, **options: Any) -> PretrainedRun:
    """Train a backbone as a classifier: see `flyweight.training.classification.run.pretrain`.

    Args:
        backbone: a name of `flyweight.models.backbones`.
        data: folders of classes, or a data set whose objects are cut out.
        out: the run's folder; `train(..., pretrained=run.checkpoint)` starts from what it leaves.
        options: `size`, `width`, `norm`, `pretrained`, `resume`, and every field of
            `flyweight.training.classification.recipe.ClassificationRecipe`, such as `epochs=50`.
    """
    from flyweight.training.classification.run import pretrain as pretrain_on_folder

    return pretrain_on_folder(backbone, data, out, **options)


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


def label(
    images: PathLike,
    *,
    teacher: PathLike | Sequence[PathLike],
    data: PathLike,
    out: PathLike,
    split: str = "val",
    scale: Sequence[float] = (1.0,),
    flip: bool = True,
    renamed: Mapping[str, str] | None = None,
    threads: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> LabelledFolder:
    """Label pictures with trained detectors: see `flyweight.labeling.label.label_folder`.

    Args:
        images: a folder of pictures without labels.
        teacher: a model file, or several.
        data: a labelled data set: its classes, and on its `split` what thresholds fit.
        out: the new data set's folder, for `train(..., extra=out)`.
        split: images that the teachers have not learnt from.
        scale: how large the teachers see the pictures, 1 as always.
        flip: also mirrored.
        renamed: teacher's class → class of the data, where their names differ.
        threads, device: of the teachers, as of `load`.
        options: `precision`, `uncertain`, `batch`, `shard_images`, `copy` and the others there.

    Raises:
        InputError: a file or folder is missing or does not fit the others; the disk is full:
            finished shards stay.
    """
    from flyweight.data.formats import open_dataset
    from flyweight.labeling.label import label_folder
    from flyweight.labeling.labeler import Labeler
    from flyweight.labeling.teacher import open_teachers
    from flyweight.labeling.views import make_views

    labelled = open_dataset(Path(data), split)
    teachers = open_teachers(
        [Path(path) for path in ([teacher] if isinstance(teacher, str | os.PathLike) else teacher)],
        labelled.class_names,
        load=lambda path: load(path, threads=threads, device=device),
        renamed=renamed,
        threads=threads,
    )
    labeler = Labeler(teachers, make_views(scale, flip=flip))
    return label_folder(Path(images), Path(out), labeler, labelled, **options)


def evaluate(predictor: Predictor, dataset: DetectionDataset, **options: Any) -> EvaluationResult:
    """COCO AP of anything that predicts: see `flyweight.evaluation.evaluate.evaluate`."""
    from flyweight.evaluation.evaluate import evaluate as evaluate_predictor

    return evaluate_predictor(predictor, dataset, **options)


def compare(
    predictors: Sequence[Predictor], dataset: DetectionDataset, **options: Any
) -> Comparison:
    """Compare predictors on the same images, each with the first, and say what may be chance: see
    `flyweight.evaluation.paired.compare`."""
    from flyweight.evaluation.paired import compare as compare_predictors

    return compare_predictors(predictors, dataset, **options)


def export(detector: Detector, *arguments: Any, **options: Any) -> list[ExportedFile]:
    """Write checked files for runtimes: see `flyweight.export.export.export`."""
    from flyweight.export.export import export as export_detector

    return export_detector(detector, *arguments, **options)


def compress(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    prune: float | None = None,
    teacher: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Compressed:
    """Make a trained detector smaller stage by stage: see `flyweight.pipeline.compress`.

    Args:
        model: a checkpoint.
        data: a data set's folder.
        out: of what each stage leaves, and the ledger.
        prune: share of the MACs that may stay; for other targets give `target`.
        teacher: file of a detector to learn from while fine-tuning.
        options: `fine_tune`, `fold`, `int8_epochs`, `precision` and the other fields of
            `CompressionPlan`; `repeats`, `say` and `progress` of `compress_file`.

    Raises:
        InputError: a file or the data cannot be used, or there is nothing to do.
    """
    from flyweight.compression.prune_target import Target
    from flyweight.pipeline.compress import CompressionPlan, compress_file

    ways = {name: options.pop(name) for name in ("repeats", "say", "progress") if name in options}
    if prune is not None:
        options["target"] = Target(share=prune)
    plan = CompressionPlan(teacher=None if teacher is None else Path(teacher), **options)
    return compress_file(Path(model), Path(data), Path(out), plan, **ways)
