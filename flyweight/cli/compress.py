"""`flyweight compress`: a detector made smaller stage by stage, and what each stage cost."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flyweight.cli.options import Data, Debug, DeviceModelFile, Json
from flyweight.cli.output import note, progress_bar, result
from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from flyweight.compression.ledger import Ledger
    from flyweight.compression.prune_target import Target
    from flyweight.compression.stages import Made, Stage

FORMATS = ("onnx", "openvino")
IMPORTANCES = ("magnitude", "bn_scale", "taylor")
SCOPES = ("global", "layer")

Model = Annotated[Path, typer.Argument(help="A .safetensors file.", metavar="FILE")]
Out = Annotated[Path, typer.Option(help="Folder; a stage that is in it is kept.", metavar="DIR")]
Prune = Annotated[
    float | None,
    typer.Option(help="Prune channels to this share of what the model costs.", metavar="0.5"),
]
Unit = Annotated[str, typer.Option("--prune-unit", help="Of that cost.", metavar="macs|params|ms")]
Importance = Annotated[
    str, typer.Option(help="What a channel matters by.", metavar="magnitude|bn_scale|taylor")
]
Scope = Annotated[
    str,
    typer.Option(help="All channels ranked together, or each layer alike.", metavar="global|layer"),
]
Epochs = Annotated[
    int, typer.Option(min=0, help="Of fine-tuning after pruning; 0 for none.", metavar="N")
]
LearningRate = Annotated[float | None, typer.Option(help="Of fine-tuning. (default: by recipe)")]
Fold = Annotated[
    bool, typer.Option("--fold", help="BatchNorm into the layers before it, as export does too.")
]
Quantize = Annotated[str | None, typer.Option(help="Quantise the weights.", metavar="int8")]
To = Annotated[str, typer.Option(help="Of the quantised file.", metavar="onnx|openvino")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed runs of each stage; the median counts.")]


def compress(
    file: Model,
    data: Data,
    out: Out = Path("compressed"),
    prune: Prune = None,
    prune_unit: Unit = "macs",
    importance: Importance = "magnitude",
    scope: Scope = "global",
    device_model: DeviceModelFile = None,
    fine_tune: Epochs = 10,
    lr: LearningRate = None,
    fold: Fold = False,
    quantize: Quantize = None,
    to: To = "onnx",
    repeats: Repeats = 20,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a trained model smaller: prune, fine-tune, fold, quantise, in this order.

    Fine-tuning comes before folding, since folded norms no longer train, and int8 is last. Each
    stage leaves a file of its own in --out; the same command again makes only what is missing.
    The ledger says what each stage cost in AP on the test images and saved in time and size.
    """
    with result(as_json=json) as show:
        for value, choices, option in (
            (quantize or "int8", ("int8",), "precision"),
            (to, FORMATS, "format"),
            (importance, IMPORTANCES, "importance"),
            (scope, SCOPES, "scope"),
        ):
            if value not in choices:
                raise InputError(
                    f"unknown {option} '{value}'", fix=f"choose {' or '.join(choices)}"
                )
        from flyweight.compression.stages import Made, run_stages

        stages = []
        if prune is not None:
            target = _target(prune, prune_unit, device_model)
            stages.append(_prune_stage(target, importance, scope, data))
            if fine_tune:
                stages.append(_fine_tune_stage(data, fine_tune, lr))
        if fold:
            stages.append(_fold_stage())
        if quantize is not None:
            stages.append(_quantise_stage(data, to))
        if not stages:
            raise InputError(
                "there is nothing to do", fix="ask for --prune 0.5, --fold or --quantize int8"
            )
        made = [Made("start", file), *run_stages(file, stages, out, say=note)]
        ledger = _measure(made, data, out, repeats)
        content = {
            "stages": [{"stage": each.name, "file": str(each.file)} for each in made],
            "ledger": ledger.to_dict(),
            "report": str(out / "ledger.html"),
        }
        _write(ledger, out, file)
        show(content, lambda console: console.print(ledger.to_table()))


def _target(share: float, unit: str, device_model: Path | None) -> Target:
    from flyweight.compression.prune_target import Target
    from flyweight.profiling.device_model import DeviceModel

    device = None if device_model is None else DeviceModel.load(device_model)
    return Target(share=share, unit=cast(Any, unit), device=device)


def _prune_stage(target: Target, importance: str, scope: str, data: Path) -> Stage:
    from flyweight.compression.stages import Stage

    def make(before: Path, folder: Path) -> Path:
        from flyweight.compression.prune import prune
        from flyweight.compression.prune_batches import labelled_batches
        from flyweight.models.detectors import checkpoint
        from flyweight.training.run import training_splits

        detector = checkpoint.load(before)
        taylor = importance == "taylor"
        pruned = prune(
            detector,
            target,
            importance=cast(Any, importance),
            scope=cast(Any, scope),
            by_saving=target.unit == "ms",
            batches=labelled_batches(detector, training_splits(data)[0]) if taylor else (),
        )
        gone, of = pruned.channels
        note(
            f"{target.shown(pruned.before)} to {target.shown(pruned.after)}: "
            f"{gone} of {of} channels are gone"
        )
        checkpoint.save(pruned.detector, folder / "model.safetensors")
        return folder / "model.safetensors"

    return Stage("pruned", target.to_dict() | {"importance": importance, "scope": scope}, make)


def _fine_tune_stage(data: Path, epochs: int, lr: float | None) -> Stage:
    from flyweight.compression.stages import Stage

    settings: dict[str, Any] = {"epochs": epochs} | ({} if lr is None else {"lr": lr})

    def make(before: Path, folder: Path) -> Path:
        from flyweight.training.run import train_on_folder

        run = folder / "run"
        begun = (run / "resume.pt").is_file()
        trained = train_on_folder(
            before, data, run, resume=begun, overwrite=not begun, note=note, **settings
        )
        return trained.checkpoint

    return Stage("fine-tuned", settings | {"data": str(data)}, make, goes_on=True)


def _fold_stage() -> Stage:
    from flyweight.compression.stages import Stage

    def make(before: Path, folder: Path) -> Path:
        from flyweight.compression.fold import fold, unfolded_norms
        from flyweight.models.detectors import checkpoint

        folded = fold(checkpoint.load(before))
        if unfolded_norms(folded):
            raise InputError("a BatchNorm of this model cannot be folded", where=before)
        checkpoint.save(folded, folder / "model.safetensors")
        return folder / "model.safetensors"

    return Stage("folded", {}, make)


def _quantise_stage(data: Path, to: str) -> Stage:
    from flyweight.compression.stages import Stage

    def make(before: Path, folder: Path) -> Path:
        from flyweight.export.export import export
        from flyweight.models.detectors import checkpoint

        detector = checkpoint.load(before)
        files = export(detector, [to], folder, precision="int8", data=data, name="model", say=note)
        return files[0].path

    return Stage("int8", {"to": to, "data": str(data)}, make)


def _measure(made: list[Made], data: Path, out: Path, repeats: int) -> Ledger:
    """AP of every stage on the same images, and its time in each runtime, all side by side."""
    from flyweight.api import load
    from flyweight.compression.ledger import Ledger
    from flyweight.core.image import read_image
    from flyweight.data.formats import available_splits, open_dataset
    from flyweight.evaluation.evaluate import detect
    from flyweight.evaluation.latency import median_milliseconds
    from flyweight.evaluation.paired import compare_detections

    splits = available_splits(data)
    split = next((name for name in ("test", "val") if name in splits), None)
    dataset = open_dataset(data, split)
    found = []
    for each in made:
        with progress_bar(f"evaluating {each.name}") as progress:
            found.append(detect(load(each.file), dataset, progress=progress))
    compared = compare_detections(dataset, found)
    image = read_image(dataset.records[0].path)
    runners = [_runners(each, out) for each in made]
    calls: dict[str, Callable[[], object]] = {
        f"{index} {runtime}": partial(predictor.predict_batch, [image])
        for index, of_stage in enumerate(runners)
        for runtime, predictor in of_stage.items()
    }
    with progress_bar("timing", unit="rounds") as progress:
        times = median_milliseconds(calls, repeats=repeats, progress=progress)
    ledger = Ledger()
    for index, (each, measured) in enumerate(zip(made, compared.results, strict=True)):
        runtimes = {runtime: times[f"{index} {runtime}"] for runtime in runners[index]}
        ledger.add(
            each.name,
            AP=measured.AP or 0.0,
            AP50=measured.AP50 or 0.0,
            ms=min(runtimes.values()),
            mb=_megabytes(each.file),
            runtimes=runtimes,
            difference=compared.differences[index - 1] if index else None,
            **_counts(each.file),
        )
    return ledger


def _runners(made: Made, out: Path) -> dict[str, Any]:
    """The stage in each runtime: a checkpoint in torch, and exported in the others."""
    from importlib.util import find_spec

    from flyweight.api import CHECKPOINT_SUFFIX, load
    from flyweight.export.export import export
    from flyweight.models.detectors import checkpoint

    runners: dict[str, Any] = {}
    file = made.file
    if file.suffix == CHECKPOINT_SUFFIX:
        detector = checkpoint.load(file)
        runners["torch"] = detector
        exported = out / "exported"
        note(f"exporting {made.name} to time it")
        file = export(detector, ["onnx"], exported, name=made.name.replace(" ", "-"))[0].path
    if file.suffix == ".onnx":
        runners["onnxruntime"] = load(file, runtime="onnxruntime")
    if find_spec("openvino") is not None:
        runners["openvino"] = load(file, runtime="openvino")
    return runners


def _counts(file: Path) -> dict[str, int]:
    """Parameters and MACs of a checkpoint; quantised files have those of the stage before."""
    from flyweight.api import CHECKPOINT_SUFFIX

    if file.suffix != CHECKPOINT_SUFFIX:
        return {}
    from flyweight.models.detectors import checkpoint
    from flyweight.profiling.trace import trace_detector

    detector = checkpoint.load(file)
    params = sum(each.numel() for each in detector.parameters())
    return {"params": params, "macs": trace_detector(detector, folded=True).macs}


def _megabytes(file: Path) -> float:
    """Of the file; of OpenVINO's both."""
    files = {file, file.with_suffix(".bin")} if file.suffix == ".xml" else {file}
    return sum(each.stat().st_size for each in files) / 1e6


def _write(ledger: Ledger, out: Path, start: Path) -> None:
    from flyweight.compression.ledger_report import write_ledger_report
    from flyweight.core.files import write_atomically

    with write_atomically(out / "ledger.json") as temporary:
        temporary.write_text(json_module.dumps(ledger.to_dict(), indent=1) + "\n", encoding="utf-8")
    write_ledger_report(
        ledger, out / "ledger.html", title="What compression gave and cost", subtitle=str(start)
    )
