"""What each training choice is worth on little data: paired over seeds, in `docs/ablations.md`.

    python benchmarks/ablations.py ../shared/data/bccd [--part 1/2] [--teacher FILE] [--table]

Every variant differs from its base in one thing and shares its seeds, so that a seed's luck falls
on both sides of a difference. AP is of the last epoch's weights on `val`: nothing is chosen on the
way, and `test` is left for what is trained to the end. NMS kinds are tried on the base's weights.
Runs are finished one by one in `--runs`, so the script can be stopped, called again, or called for
two halves at once; `--table` only writes what there is. Distillation wants a `--teacher`, trained
at the students' size; without one it is left out. The network that was trained with sparse norms is
pruned beside its base, without training on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from ablations_page import FIGURES, document
from machine import write_result

from flyweight.compression.prune import prune
from flyweight.compression.prune_target import Target
from flyweight.data.formats import open_dataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.models.detectors import Detector, load
from flyweight.training.run import train_on_folder

DOCS = Path(__file__).parents[1] / "docs" / "ablations.md"
SEEDS = (0, 1, 2)
NMS_KINDS = ("greedy", "diou", "soft_linear", "soft_gaussian")
# Student's t, two-sided 95 %, by degrees of freedom
T_QUANTILE = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}


@dataclass(frozen=True)
class Variant:
    """One training.

    Attributes:
        model: a name of the zoo.
        size: side of the input, pixels.
        epochs: passes over the training images.
        base: the variant it is compared with; empty for a base itself.
        says: what it is, for the table.
        options: fields of the config.
        settings: fields of the recipe.
    """

    model: str
    size: int
    epochs: int
    says: str
    base: str = ""
    pretrained: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


LIGHT = Variant(
    "ssdlite320_mobilenet_v2",
    160,
    20,
    "smooth L1, SSD's augmentation, EMA 0.998",
    pretrained="imagenet",
)
SLIM = Variant("retinanet_snet", 160, 30, "GroupNorm, batch 16")
# Full size and a third of the steps: what fine-tuning a pruned network, or little time, looks like.
STUDENT = replace(LIGHT, size=320, epochs=8, says="320 px, 8 epochs")
# Of the MACs, as far as pruning goes without training on.
KEPT_SHARES = (0.9, 0.8, 0.7)


def light(says: str, *, base: str = "light", options: Any = None, **settings: Any) -> Variant:
    """The light base with one change."""
    return replace(LIGHT, says=says, base=base, options=options or {}, settings=settings)


def student(says: str, **settings: Any) -> Variant:
    """The student with one change."""
    return replace(STUDENT, says=says, base="student", settings=settings)


def slim(says: str, *, base: str, norm: str, batch_size: int, **options: Any) -> Variant:
    """The slim RetinaNet with a norm and a batch, its rate scaled by the root of the batch."""
    rate = 1e-3 * math.sqrt(batch_size / 16)
    options |= {"norm": norm, "backbone_norm": norm}
    return replace(
        SLIM,
        says=says,
        base=base,
        options=options,
        settings={"batch_size": batch_size, "lr": rate},
    )


# Zheng et al. 2020 (DIoU, section 5.1) weigh IoU losses by 5 in SSD, which makes them as large as
# smooth L1 of encoded offsets.
VARIANTS: dict[str, Variant] = {
    "light": LIGHT,
    **{
        kind: light(f"{says} in place of smooth L1", options={"box_loss": kind, "box_weight": 5.0})
        for kind, says in {"iou": "IoU", "giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}.items()
    },
    "no_ema": light("no moving average", ema_decay=0.0),
    "tiny_data": light("`tiny_data` augmentation", augmentation="tiny_data"),
    "darknet": light("Darknet's augmentation (`yolov3`)", augmentation="yolov3"),
    "mosaic": light("... and Mosaic (`yolov4`)", base="darknet", augmentation="yolov4"),
    "gn16": slim("slim RetinaNet: GroupNorm, batch 16", base="", norm="group", batch_size=16),
    "bn16": slim("BatchNorm, batch 16", base="gn16", norm="batch", batch_size=16),
    "stem": slim(
        "a first layer that reads every pixel (`stem_dilation` 1)",
        base="gn16",
        norm="group",
        batch_size=16,
        backbone_options=(("stem_dilation", 1),),
    ),
    "gn2": slim("slim RetinaNet: GroupNorm, batch 2", base="", norm="group", batch_size=2),
    "bn2": slim("BatchNorm, batch 2", base="gn2", norm="batch", batch_size=2),
    "student": STUDENT,
    "logits": student("distilled by logits", distill=("logits",), distill_weights=(1.0,)),
    "boxes": student("distilled by boxes", distill=("boxes",), distill_weights=(1.0,)),
    "features": student("distilled by features", distill=("features",), distill_weights=(4.0,)),
    "sparse": student("norms pulled to zero (`norm_sparsity` 0.3)", norm_sparsity=0.3),
}
# Trained alike but for their norms, and pruned.
PRUNED = ("student", "sparse")


def main() -> None:
    """Run what is missing of a part; with `--table` write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--part", default="1/1", help="such as 2/3: of three processes the second")
    parser.add_argument("--teacher", type=Path, help="checkpoint that students learn from")
    parser.add_argument("--table", action="store_true", help="train nothing, write the table")
    options = parser.parse_args()
    # seed by seed, so that what is there is balanced whenever it ends
    jobs = [(name, seed) for seed in SEEDS for name in VARIANTS]
    part, parts = (int(each) for each in options.part.split("/"))
    if not options.table:
        for name, seed in jobs[part - 1 :: parts]:
            if "distill" in VARIANTS[name].settings and options.teacher is None:
                continue
            row = run_once(name, seed, options.data, options.runs, teacher=options.teacher)
            print(json.dumps(row), flush=True)
        return
    runs = {
        (name, seed): json.loads(path.read_text())
        for name, seed in jobs
        if (path := options.runs / f"{name}-{seed}.json").is_file()
    }
    result = {
        "data": options.data.name,
        "setting": (
            f"SSDlite-MobileNetV2 from ImageNet at {LIGHT.size} px, {LIGHT.epochs} epochs (the "
            f"student: {STUDENT.size} px, {STUDENT.epochs} epochs); the slim RetinaNet from random "
            f"weights at {SLIM.size} px, {SLIM.epochs} epochs"
        ),
        "rows": [row for name in VARIANTS if (row := summary(name, runs)) is not None],
        "nms": nms_rows(runs),
        "pruned": pruned_rows(runs),
    }
    print(write_result(f"ablations_{options.data.name}", result))
    DOCS.write_text(document(result), encoding="utf-8")
    print(DOCS)


def run_once(
    name: str, seed: int, data: Path, folder: Path, *, teacher: Path | None
) -> dict[str, Any]:
    """The figures of one training, from its file where it is finished."""
    finished = folder / f"{name}-{seed}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text()))
    variant = VARIANTS[name]
    started = time.perf_counter()
    trained = train_on_folder(
        variant.model,
        data,
        folder / f"{name}-{seed}",
        overwrite=True,
        progress=False,
        size=variant.size,
        pretrained=variant.pretrained,
        anchors="fit",
        options=variant.options,
        **{
            "epochs": variant.epochs,
            "eval_every": variant.epochs,
            "cache": "memory",
            "seed": seed,
            **({"teacher": teacher} if "distill" in variant.settings else {}),
            **variant.settings,
        },
    )
    row: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "val": trained.metrics,
        "minutes": round((time.perf_counter() - started) / 60, 2),
        "threads": torch.get_num_threads(),
    }
    if name == "light":
        row["nms"] = try_nms(load(trained.checkpoint), data)
    if name in PRUNED:
        row["pruned"] = try_pruning(load(trained.checkpoint), data)
    finished.write_text(json.dumps(row, indent=1) + "\n")
    return row


def try_nms(detector: Detector, data: Path) -> dict[str, dict[str, float]]:
    """AP on `val` with each kind of NMS, everything else alike."""
    images = open_dataset(data, "val")
    found = {}
    for kind in NMS_KINDS:
        detector.thresholds = replace(detector.thresholds, nms=kind)
        figures = evaluate(detector, images, batch_size=16).to_dict()
        found[kind] = {name: figures[name] for name in FIGURES}
    return found


def try_pruning(detector: Detector, data: Path) -> dict[str, float]:
    """AP on `val` with a share of the MACs, channels ranked by the scales of their norms."""
    images = open_dataset(data, "val")
    found = {}
    for share in KEPT_SHARES:
        smaller = prune(detector, Target(share=share), importance="bn_scale").detector
        found[str(share)] = evaluate(smaller, images, batch_size=16).AP or 0.0
    return found


def summary(name: str, runs: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean and spread of a variant, and its paired difference to its base; None if not run."""
    variant = VARIANTS[name]
    seeds = [seed for seed in SEEDS if (name, seed) in runs]
    if not seeds:
        return None
    ap = {seed: runs[name, seed]["val"]["AP"] for seed in seeds}
    row: dict[str, Any] = {
        "name": name,
        "says": variant.says,
        "base": variant.base,
        "seeds": len(seeds),
        **{
            figure: spread([runs[name, seed]["val"][figure] for seed in seeds])
            for figure in FIGURES
        },
    }
    shared = [seed for seed in seeds if (variant.base, seed) in runs]
    if shared:
        row["difference"] = difference(
            [ap[seed] - runs[variant.base, seed]["val"]["AP"] for seed in shared]
        )
    return row


def nms_rows(runs: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """NMS kinds on the weights of the light base, against greedy NMS."""
    tried = [row["nms"] for (name, _), row in sorted(runs.items()) if name == "light"]
    if not tried:
        return []
    rows: list[dict[str, Any]] = []
    for kind in NMS_KINDS:
        row: dict[str, Any] = {"name": kind, "seeds": len(tried)}
        row |= {figure: spread([each[kind][figure] for each in tried]) for figure in FIGURES}
        if kind != "greedy":
            row["difference"] = difference(
                [each[kind]["AP"] - each["greedy"]["AP"] for each in tried]
            )
        rows.append(row)
    return rows


def pruned_rows(runs: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """AP after pruning by the scales of norms, trained with and without a pull on them."""
    return [
        {
            "name": name,
            "seeds": len(rows),
            "AP": {
                str(share): spread([row["pruned"][str(share)] for row in rows])
                for share in KEPT_SHARES
            },
        }
        for name in PRUNED
        if (rows := [runs[name, seed] for seed in SEEDS if (name, seed) in runs])
    ]


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation (0 of one value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "sd": round(deviation, 4)}


def difference(values: list[float]) -> dict[str, Any]:
    """Mean of paired differences, half its 95 % interval by Student's t, and whether that leaves
    out zero; None of both where there is one pair only."""
    found: dict[str, Any] = {"mean": round(statistics.mean(values), 4), "half": None, "clear": None}
    if len(values) > 1:
        half = T_QUANTILE[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
        found |= {"half": round(half, 4), "clear": abs(statistics.mean(values)) > half}
    return found


if __name__ == "__main__":
    main()
