"""What pictures that nobody labelled are worth: a tenth of the labels kept, the rest made.

    python benchmarks/data_distillation.py ../shared/data/bccd [--foreign TEACHER.onnx] [--table]

Of the training images a tenth keep their labels. A detector trained on them alone (`tenth`) labels
the others, and one of the same kind is trained on both (`taught`). `full` has all labels, `foreign`
the tenth and what somebody else's detector says about the others. All see as many pictures in
training, have the same seed and recipe, and are measured on `test` (`val` where there is none) with
the weights of the last epoch: nothing is chosen on the way. Thresholds are the scores that give the
other pictures as many labels an image as the labelled tenth has, so no other label is used;
`precise` takes those from which on nine labels of ten are right on `val`, so it wants a `test`.
Runs are finished one by one in `--runs`, so the script can be stopped and called again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, write_result

from flyweight.api import load
from flyweight.core.detections import Detections
from flyweight.data.formats import available_splits, open_dataset, save_dataset
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.evaluation.matches import match
from flyweight.labeling.label import label_folder
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.teacher import open_teachers
from flyweight.labeling.views import make_views
from flyweight.training.run import train_on_folder

MODEL = "ssdlite320_mobilenet_v2"
KEPT = 10  # one image in so many keeps its labels
ARMS = ("tenth", "taught", "precise", "full", "foreign")
PRECISION = 0.9  # of the labels that `precise` keeps, as far as `val` tells
FIGURES = ("AP", "AP50", "AP75")
IOU = 0.5
DOCS = Path(__file__).parents[1] / "docs" / "labelling.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"


@dataclass(frozen=True)
class Plan:
    """What is trained on a data set.

    Attributes:
        size: side of the input, pixels.
        epochs: over as many pictures as there are training images.
        seeds: a run of every arm for each.
        scales: at which teachers see the pictures, mirrored too.
    """

    size: int
    epochs: int
    seeds: tuple[int, ...]
    scales: tuple[float, ...]


PLANS = {
    "bccd": Plan(size=160, epochs=40, seeds=(0, 1, 2), scales=(1.0, 1.25)),
    "voc6": Plan(size=160, epochs=5, seeds=(0,), scales=(1.0,)),
}


@dataclass(frozen=True)
class Split:
    """The data of a seed: `labelled` trains like any other, `pictures` have no labels."""

    labelled: Path
    pictures: Path
    truth: DetectionDataset


def main() -> None:
    """Run what is missing; with `--table` only write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--foreign", type=Path, help="YOLOX or PicoDet as published (.onnx)")
    parser.add_argument("--runs", type=Path, default=Path("runs/data_distillation"))
    parser.add_argument("--table", action="store_true", help="train nothing, write the figures")
    options = parser.parse_args()
    plan = PLANS[options.data.name]
    runs = options.runs / options.data.name
    missing = {"foreign"} if options.foreign is None else set()
    if "test" not in available_splits(options.data):
        missing.add("precise")
    arms = [arm for arm in ARMS if arm not in missing]
    if not options.table:
        for seed in plan.seeds:
            for arm in arms:
                row = run_once(arm, seed, plan, options.data, runs, options.foreign)
                print(json.dumps(row), flush=True)
    rows = [json.loads(path.read_text()) for path in sorted(runs.glob("*-*.json"))]
    if rows:
        result = {"data": options.data.name, "kept": 1 / KEPT, "arms": summary(rows), "runs": rows}
        print(write_result(f"data_distillation_{options.data.name}", result))
        write_tables()


def run_once(
    arm: str, seed: int, plan: Plan, data: Path, runs: Path, foreign: Path | None
) -> dict[str, Any]:
    """The figures of one training, from its file where it is finished."""
    finished = runs / f"{arm}-{seed}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text()))
    split = divide(data, seed, runs / f"split-{seed}")
    own = runs / f"tenth-{seed}" / "last.safetensors"
    teacher = {"taught": own, "precise": own, "foreign": foreign}.get(arm)
    row: dict[str, Any] = {"arm": arm, "seed": seed}
    extra: dict[str, Any] = {}
    if teacher is not None:
        out = runs / f"labels-{arm}-{seed}"
        precision = PRECISION if arm == "precise" else None
        row["labels"] = make_labels(teacher, split, out, plan.scales, precision)
        extra = {"extra": out, "ratio": KEPT - 1}
    started = time.perf_counter()
    train_on_folder(
        MODEL,
        data if arm == "full" else split.labelled,
        runs / f"{arm}-{seed}",
        overwrite=True,
        progress=False,
        size=plan.size,
        pretrained="imagenet",
        anchors="fit",
        # of the tenth alone an epoch is a tenth as long
        epochs=plan.epochs * (KEPT if arm == "tenth" else 1),
        eval_every=plan.epochs * KEPT,
        warmup_epochs=KEPT if arm == "tenth" else 1,
        ema_decay=0.99,
        cache="memory",
        seed=seed,
        **extra,
    )
    row["minutes"] = round((time.perf_counter() - started) / 60, 2)
    test = open_dataset(data, "test" if "test" in available_splits(data) else "val")
    figures = evaluate(load(runs / f"{arm}-{seed}" / "last.safetensors"), test).to_dict()
    row |= {name: figures[name] for name in FIGURES}
    finished.write_text(json.dumps(row, indent=1) + "\n")
    return row


def divide(data: Path, seed: int, folder: Path) -> Split:
    """A tenth of the training images with their labels, the other pictures without."""
    train = open_dataset(data, "train")
    order = np.random.default_rng(seed).permutation(len(train))
    count = round(len(train) / KEPT)
    truth = train.subset(order[count:])
    labelled, pictures = folder / "labelled", folder / "pictures"
    if not folder.exists():
        making = folder.with_name(folder.name + ".making")
        shutil.rmtree(making, ignore_errors=True)
        parts = {"train": train.subset(order[:count]), "val": open_dataset(data, "val")}
        save_dataset(parts, making / "labelled", data_format="coco")
        (making / "pictures").mkdir(parents=True)
        for record in truth.records:
            shutil.copyfile(record.path, making / "pictures" / record.path.name)
        making.rename(folder)
    return Split(labelled, pictures, truth)


def make_labels(
    teacher: Path,
    split: Split,
    out: Path,
    scales: tuple[float, ...],
    precision: float | None,
) -> dict[str, Any]:
    """Label the other pictures, and how good that is by the labels that were hidden."""
    labelled = open_dataset(split.labelled, "train" if precision is None else "val")
    teachers = open_teachers([teacher], labelled.class_names, load=load)
    labeler = Labeler(teachers, make_views(scales, flip=True))
    label_folder(
        split.pictures,
        out,
        labeler,
        labelled,
        precision=precision,
        count_on_pictures=precision is None,
    )
    made = open_dataset(out, "train")
    by_name = {record.path.name: record for record in made.records}
    found = []
    for record in split.truth.records:
        labels = by_name[record.path.name]
        sure = ~labels.crowd
        boxes = labels.boxes_xyxy[sure]
        found.append(Detections(boxes, np.ones(len(boxes), np.float32), labels.labels[sure]))
    matches = match(split.truth, found, iou_thresholds=np.array([IOU]))
    right, wrong = int(matches.hit.sum()), int((~matches.hit & ~matches.ignored).sum())
    uncertain = sum(int(record.crowd.sum()) for record in made.records)
    return {
        "precision": round(right / max(right + wrong, 1), 4),
        "recall": round(right / max(int(matches.objects.sum()), 1), 4),
        "labels": right + wrong,
        "uncertain": uncertain,
        "objects": int(matches.objects.sum()),
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread of each arm, and what part of the way from `tenth` to `full` it goes."""
    by_arm = {arm: {row["seed"]: row for row in rows if row["arm"] == arm} for arm in ARMS}
    found = []
    for arm, own in by_arm.items():
        if not own:
            continue
        line: dict[str, Any] = {"arm": arm, "seeds": sorted(own)}
        for name in FIGURES:
            values = [row[name] for row in own.values()]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            line[name] = {"mean": round(statistics.mean(values), 4), "sd": round(deviation, 4)}
        shared = sorted(set(own) & set(by_arm["tenth"]) & set(by_arm["full"]))
        if arm in ("taught", "precise", "foreign") and shared:
            gap = sum(by_arm["full"][seed]["AP"] - by_arm["tenth"][seed]["AP"] for seed in shared)
            gain = sum(own[seed]["AP"] - by_arm["tenth"][seed]["AP"] for seed in shared)
            line["gap_closed"] = round(gain / gap, 3)
        found.append(line)
    return found


SAYS = {
    "tenth": "a tenth of the labels",
    "taught": "... and the others labelled by the detector that this gave",
    "precise": "... of which only labels are kept that are right nine times of ten on `val`",
    "foreign": "... and the others labelled by a foreign detector (`--foreign`)",
    "full": "all labels",
}


def write_tables() -> None:
    """All results as tables in `docs/labelling.md`, between its markers."""
    tables = []
    for path in sorted(RESULTS.glob("data_distillation_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        lines = [f"`{result['data']}`:", ""]
        lines += ["| trained on | seeds | AP | AP50 | gap closed | labels right | objects found |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for arm in sorted(result["arms"], key=lambda each: list(SAYS).index(each["arm"])):
            made = [run["labels"] for run in result["runs"] if run["arm"] == arm["arm"]
                    and "labels" in run]  # fmt: skip
            cells = [SAYS[arm["arm"]], str(len(arm["seeds"]))]
            cells += [points(arm[name]) for name in FIGURES[:2]]
            cells += [f"{arm['gap_closed']:.0%}" if "gap_closed" in arm else ""]
            cells += [
                f"{statistics.mean(each[name] for each in made):.0%}" if made else ""
                for name in ("precision", "recall")
            ]
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(lines) + "\n")
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    DOCS.write_text(before + BEGIN + "\n".join(tables) + END + rest.split(END)[1], encoding="utf-8")


def points(figure: dict[str, float]) -> str:
    """Mean and deviation in points of 100."""
    spread = f" ± {100 * figure['sd']:.1f}" if figure["sd"] else ""
    return f"{100 * figure['mean']:.1f}{spread}"


if __name__ == "__main__":
    main()
