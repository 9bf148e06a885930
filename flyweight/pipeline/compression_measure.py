"""What each stage of compression gives and costs, all measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flyweight.compression.ledger import Ledger
from flyweight.compression.stages import Made, Say
from flyweight.core.detections import Predictor
from flyweight.core.image import read_image
from flyweight.core.manifest import CHECKPOINT_SUFFIX
from flyweight.data.formats import available_splits, open_dataset
from flyweight.evaluation.evaluate import detect
from flyweight.evaluation.latency import median_milliseconds
from flyweight.evaluation.paired import compare_detections
from flyweight.export.export import export
from flyweight.models.detectors import Detector, checkpoint
from flyweight.profiling.trace import trace_detector
from flyweight.runtime.load import load_predictor

# From a text to what is told how much is done, of how much.
Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def measure(
    made: Sequence[Made], data: Path, out: Path, *, repeats: int, say: Say, progress: Progress
) -> Ledger:
    """AP of every stage on the same images, and its time in each runtime, all side by side.

    Args:
        made: the first is what the others are compared with.
        out: where checkpoints are exported, to be timed.
        repeats, say, progress: see `flyweight.pipeline.compress.compress_file`.
    """
    splits = available_splits(data)
    split = next((name for name in ("test", "val") if name in splits), None)
    dataset = open_dataset(data, split)
    opened = [_opened(each.file) for each in made]
    found = []
    for each, predictor in zip(made, opened, strict=True):
        with progress(f"evaluating {each.name}") as tell:
            found.append(detect(predictor, dataset, progress=tell))
    compared = compare_detections(dataset, found)
    image = read_image(dataset.records[0].path)
    runners = [
        _runners(each, predictor, out, say) for each, predictor in zip(made, opened, strict=True)
    ]
    calls: dict[str, Callable[[], object]] = {
        f"{index} {runtime}": partial(predictor.predict_batch, [image])
        for index, of_stage in enumerate(runners)
        for runtime, predictor in of_stage.items()
    }
    with progress("timing") as tell:
        times = median_milliseconds(calls, repeats=repeats, progress=tell)
    ledger = Ledger()
    counts: dict[str, int] = {}
    for index, (each, measured) in enumerate(zip(made, compared.results, strict=True)):
        counts = _counts(opened[index]) or counts
        runtimes = {runtime: times[f"{index} {runtime}"] for runtime in runners[index]}
        ledger.add(
            each.name,
            AP=measured.AP or 0.0,
            AP50=measured.AP50 or 0.0,
            ms=min(runtimes.values()),
            mb=_megabytes(each.file),
            runtimes=runtimes,
            difference=compared.differences[index - 1] if index else None,
            **counts,
        )
    return ledger


def _runners(made: Made, opened: Predictor, out: Path, say: Say) -> dict[str, Any]:
    """The stage in each runtime: a checkpoint in torch, and exported in the others."""
    runners: dict[str, Any] = {}
    file = made.file
    if isinstance(opened, Detector):
        runners["torch"] = opened
        exported = out / "exported"
        say(f"exporting {made.name} to time it")
        file = export(opened, ["onnx"], exported, name=made.name.replace(" ", "-"))[0].path
    if file.suffix == ".onnx":
        runners["onnxruntime"] = load_predictor(file, runtime="onnxruntime")
    if find_spec("openvino") is not None:
        runners["openvino"] = load_predictor(file, runtime="openvino")
    return runners


def _opened(file: Path) -> Predictor:
    """What predicts: a checkpoint's detector, or an exported file."""
    return checkpoint.load(file) if file.suffix == CHECKPOINT_SUFFIX else load_predictor(file)


def _counts(opened: Predictor) -> dict[str, int]:
    """Parameters and MACs of a detector; exported files have those of the stage before."""
    if not isinstance(opened, Detector):
        return {}
    params = sum(each.numel() for each in opened.parameters())
    return {"params": params, "macs": trace_detector(opened, folded=True).macs}


def _megabytes(file: Path) -> float:
    """Of the file; of OpenVINO's both."""
    files = {file, file.with_suffix(".bin")} if file.suffix == ".xml" else {file}
    return sum(each.stat().st_size for each in files) / 1e6
