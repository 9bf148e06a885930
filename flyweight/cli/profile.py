"""`flyweight profile`: what a detector costs and sees, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Device, DeviceModelFile, Json, Threads
from flyweight.cli.output import note, result
from flyweight.cli.profile_advice import context_for, target
from flyweight.cli.profile_findings import Findings
from flyweight.cli.profile_measure import checked_runtime
from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset
    from flyweight.models.detectors.detector import Detector
    from flyweight.profiling.effective_field import EffectiveField
    from flyweight.profiling.level_view import LevelView
    from flyweight.profiling.operation import NetworkCost
    from flyweight.profiling.profile_report import Scene

GROUPINGS = ("stage", "layer", "operator")
PRECISIONS = ("fp32", "int8")
# As `flyweight models` counts parameters: the category ids of COCO.
CLASSES = 90

Model = Annotated[
    str | None,
    typer.Argument(
        help="Name of a model (see: flyweight models), a preset's .yaml or a .safetensors file.",
        metavar="NAME|FILE",
        show_default=False,
    ),
]
Size = Annotated[int | None, typer.Option(help="Side of the input, pixels. (default: the model's)")]
Width = Annotated[float | None, typer.Option(help="Channel multiplier. (default: the model's)")]
Backbone = Annotated[
    str | None,
    typer.Option(help="Backbone in place of the model's own.", metavar="NAME"),
]
Classes = Annotated[
    int | None, typer.Option(min=1, help=f"How many, of a name. (default: {CLASSES})")
]
Batch = Annotated[int, typer.Option(min=1, help="Images that go through together.")]
Folded = Annotated[
    bool, typer.Option("--folded", help="As it is exported: BatchNorm folded into convolutions.")
]
By = Annotated[str, typer.Option(help="What a row stands for.", metavar="stage|layer|operator")]
Effective = Annotated[
    bool,
    typer.Option("--effective", help="Also measure effective receptive fields, by gradient."),
]
ProfileData = Annotated[
    Path | None,
    typer.Option(
        help="With --html: draw over a picture of it. With --advice: anchors against its objects.",
        metavar="DIR",
    ),
]
Html = Annotated[
    Path | None, typer.Option("--html", help="Write a page with pictures.", metavar="FILE")
]
Measure = Annotated[
    str | None,
    typer.Option(
        help="Also time each layer on this machine, and find its limits: a roofline.",
        metavar="torch|onnxruntime|openvino",
    ),
]
Advise = Annotated[
    bool, typer.Option("--advice", help="Say what to change, and what it would save.")
]
Apply = Annotated[
    Path | None,
    typer.Option(
        help="With --advice: make the changes, and write them as a preset.", metavar="YAML"
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        help="Without a model: time a grid of operators on this device, once (minutes).",
        metavar="FILE",
    ),
]
TargetRuntime = Annotated[
    str | None,
    typer.Option(
        help="Of --calibrate and --advice. (default: onnxruntime)",
        metavar="torch|onnxruntime|openvino",
    ),
]
Precision = Annotated[
    str, typer.Option(help="Of --advice: what the runtime computes in.", metavar="fp32|int8")
]
TrainBatch = Annotated[
    int | None,
    typer.Option(min=1, help="Of --advice: images of a training step on one device."),
]
Seconds = Annotated[
    float | None,
    typer.Option(help="Of --calibrate: stop after so long; a later call goes on."),
]


def profile(
    model: Model = None,
    size: Size = None,
    width: Width = None,
    backbone: Backbone = None,
    classes: Classes = None,
    batch: Batch = 1,
    folded: Folded = False,
    by: By = "stage",
    effective: Effective = False,
    data: ProfileData = None,
    html: Html = None,
    device: Device = "cpu",
    measure: Measure = None,
    device_model: DeviceModelFile = None,
    advice: Advise = False,
    apply: Apply = None,
    precision: Precision = "fp32",
    train_batch: TrainBatch = None,
    calibrate: Calibrate = None,
    runtime: TargetRuntime = None,
    threads: Threads = None,
    seconds: Seconds = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a detector costs, layer by layer, and what it sees, before it is trained.

    Parameters, multiply-accumulate pairs (MACs), bytes read and written, activations in memory,
    and the receptive field, for float32. Nothing runs, unless it is to be measured.
    """
    for given in (measure, runtime):
        if given is not None:
            checked_runtime(given)
    if calibrate is not None:
        _calibrate(calibrate, model, runtime=runtime, threads=threads, seconds=seconds, json=json)
        return
    name = _check(model, by=by, html=html, data=data, advice=advice, apply=apply)
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision '{precision}'", fix=f"choose {', '.join(PRECISIONS)}")
    if not advice and (precision != "fp32" or train_batch is not None):
        raise InputError("--precision and --train-batch are of advice", fix="add --advice")
    with result(as_json=json) as show:
        from flyweight.cli.profile_tables import render
        from flyweight.profiling.device_model import DeviceModel
        from flyweight.profiling.level_view import level_views
        from flyweight.profiling.trace import trace_detector

        real = effective or measure is not None
        detector = _detector(name, size, width=width, backbone=backbone, classes=classes, real=real)
        latency = None if device_model is None else DeviceModel.load(device_model)
        dataset = None if data is None else _dataset(data)
        cost = trace_detector(detector, batch=batch, folded=folded)
        fields = _effective_fields(detector, device) if effective else []
        levels = level_views(detector, cost, effective=fields)
        found = Findings(_content(cost, levels, folded=folded))
        if latency is not None:
            found.predict(detector, latency)
        if measure is not None:
            found.measure(detector, measure, threads=threads)
        if advice:
            made_for = target(runtime, precision=precision, train_batch=train_batch)
            context = context_for(detector, latency=latency, dataset=dataset, target=made_for)
            found.advise(context, apply)
        if html is not None:
            from flyweight.profiling.profile_report import write_profile_page

            write_profile_page(
                html,
                cost,
                levels=levels,
                scene=_scene(detector, dataset),
                times=found.times,
                sections=found.sections,
            )
            found.content["html"] = str(html)
        show(found.content, lambda console: render(console, found.content, by))


def _calibrate(
    path: Path,
    model: str | None,
    *,
    runtime: str | None,
    threads: int | None,
    seconds: float | None,
    json: bool,
) -> None:
    from flyweight.cli.profile_measure import calibrate_device
    from flyweight.cli.profile_tables import render_calibrated

    if model is not None:
        raise InputError("--calibrate measures the device, not a model", fix="leave the model out")
    with result(as_json=json) as show:
        content = calibrate_device(
            path, runtime=runtime or "onnxruntime", threads=threads, seconds=seconds
        )
        show(content, lambda console: render_calibrated(console, content))


def _check(
    model: str | None,
    *,
    by: str,
    html: Path | None,
    data: Path | None,
    advice: bool,
    apply: Path | None,
) -> str:
    """The model's name, if the options fit together."""
    if model is None:
        raise InputError("no model is given", fix="name one (see: flyweight models)")
    if by not in GROUPINGS:
        raise InputError(f"unknown grouping '{by}'", fix=f"choose {', '.join(GROUPINGS)}")
    if html is not None and html.is_dir():
        raise InputError("this is a folder", where=html, fix="give --html a file name")
    if data is not None and html is None and not advice:
        raise InputError("--data is for the page and for advice", fix="add --html FILE or --advice")
    if apply is not None and not advice:
        raise InputError("--apply carries advice out", fix="add --advice")
    return model


def _detector(
    model: str,
    size: int | None,
    *,
    width: float | None,
    backbone: str | None,
    classes: int | None,
    real: bool,
) -> Detector:
    """The detector at the size asked for; without memory, unless its values are needed (`real`)."""
    import torch

    from flyweight.models.detectors import checkpoint
    from flyweight.models.detectors.zoo import build, checked_size

    if Path(model).suffix in (".safetensors", ".onnx", ".xml", ".tflite", ".param"):
        if Path(model).suffix != ".safetensors":
            raise InputError(
                "an exported file has no modules to profile",
                where=model,
                fix="give the checkpoint it was made from, or time it: flyweight bench FILE",
            )
        if (width, backbone, classes) != (None, None, None):
            raise InputError(
                "--width, --backbone and --classes are of a model's name, not of a file",
                where=model,
                fix="leave them out",
            )
        loaded = checkpoint.load(model)
        return loaded if size is None else loaded.at_size(checked_size(size))
    names = [str(index) for index in range(CLASSES if classes is None else classes)]
    changes: dict[str, Any] = {} if backbone is None else {"backbone": backbone}
    with torch.device("cpu" if real else "meta"):
        return build(model, classes=names, size=size, width=width, **changes).eval()


def _effective_fields(detector: Detector, device: str) -> list[EffectiveField]:
    from flyweight.profiling.effective_field import effective_receptive_fields

    note("measuring effective receptive fields (of random weights, where nothing was trained)")
    return effective_receptive_fields(detector, device=device)


def _dataset(folder: Path) -> DetectionDataset:
    """What it trains on."""
    from flyweight.data.formats import open_dataset

    dataset = open_dataset(folder, "train")
    if len(dataset) == 0:
        raise InputError("the data set is empty", where=folder, fix="add images")
    return dataset


def _scene(detector: Detector, dataset: DetectionDataset | None) -> Scene:
    """A picture of the data set as the network gets it, and its objects' sizes."""
    from dataclasses import replace

    from flyweight.core.image import read_image
    from flyweight.profiling.level_view import object_sizes
    from flyweight.profiling.profile_report import Scene

    if dataset is None:
        return Scene()
    preprocessing = replace(detector.preprocessing, canvas="fixed")
    record = next((each for each in dataset.records if len(each)), dataset.records[0])
    picture, _ = preprocessing.apply(read_image(record.path))
    return Scene(picture, object_sizes(dataset, preprocessing))


def _content(cost: NetworkCost, levels: list[LevelView], *, folded: bool) -> dict[str, Any]:
    from flyweight.profiling.breakdown import GROUPINGS as PARTS

    peak = max(cost.operations, key=lambda each: each.live_bytes)
    return {
        "model": cost.name,
        "input_shape": list(cost.input_shape),
        "folded": folded,
        "params": cost.params,
        "macs": cost.macs,
        "elementwise": sum(each.elementwise for each in cost.operations),
        "memory_access_bytes": cost.access_bytes,
        "peak_activation_bytes": cost.peak_activation_bytes,
        "peak_layer": peak.layer,
        "levels": levels,
        **{f"{name}s": [part.to_dict() for part in parts(cost)] for name, parts in PARTS.items()},
    }
