"""A trained detector made smaller, stage by stage, and what each stage gave and cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyweight.compression.ledger import Ledger
from flyweight.compression.ledger_report import write_ledger_report
from flyweight.compression.prune_target import Target
from flyweight.compression.stages import Made, Say, Stage, run_stages
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.pipeline.compression_measure import Progress, measure
from flyweight.pipeline.compression_stages import (
    Pruning,
    fine_tune_stage,
    fold_stage,
    prune_stage,
    quantisation_aware_stage,
    quantise_stage,
)

FORMATS = ("onnx", "openvino")
PRECISIONS = ("int8", "int8-weights", "fp16", "bf16")


@dataclass(frozen=True)
class CompressionPlan:
    """What is done, in this order.

    Attributes:
        target: what pruning aims at; None prunes nothing.
        pruning: how channels are chosen.
        fine_tune: epochs of training after pruning, or with a teacher; 0 for none.
        lr: of fine-tuning; None is the recipe's.
        teacher: file of a detector to learn from while fine-tuning.
        distil: what of it, see `flyweight.training.recipe.Recipe`.
        fold: norms into the layers before them.
        int8_epochs: of training with the roundings of int8.
        precision: of the exported file at the end; None exports nothing.
        max_loss: AP points that this may cost.
        format: of that file.
    """

    target: Target | None = None
    pruning: Pruning = field(default_factory=Pruning)
    fine_tune: int = 10
    lr: float | None = None
    teacher: Path | None = None
    distil: tuple[str, ...] = ("logits",)
    fold: bool = False
    int8_epochs: int = 0
    precision: str | None = None
    max_loss: float = 0.5
    format: str = "onnx"

    def __post_init__(self) -> None:
        for value, choices, option in (
            (self.precision or "int8", PRECISIONS, "precision"),
            (self.format, FORMATS, "format"),
        ):
            if value not in choices:
                raise InputError(
                    f"unknown {option} '{value}'", fix=f"choose {' or '.join(choices)}"
                )
        if self.int8_epochs and self.precision != "int8":
            raise InputError("training for int8 without int8", fix="add --quantize int8")

    def stages(self, data: Path) -> list[Stage]:
        """The stages, with the data set in the folder `data`.

        Raises:
            InputError: there are none.
        """
        stages = []
        if self.target is not None:
            stages.append(prune_stage(self.target, self.pruning, data))
        if self.fine_tune and (self.target is not None or self.teacher is not None):
            stages.append(
                fine_tune_stage(
                    data,
                    epochs=self.fine_tune,
                    lr=self.lr,
                    teacher=self.teacher,
                    kinds=self.distil,
                )
            )
        if self.fold:
            stages.append(fold_stage())
        if self.int8_epochs:
            stages.append(
                quantisation_aware_stage(data, epochs=self.int8_epochs, teacher=self.teacher)
            )
        if self.precision is not None:
            stages.append(
                quantise_stage(
                    data, to=self.format, precision=self.precision, max_loss=self.max_loss
                )
            )
        if not stages:
            raise InputError(
                "there is nothing to do", fix="ask for --prune 0.5, --fold or --quantize int8"
            )
        return stages


@dataclass(frozen=True)
class Compressed:
    """What came of it.

    Attributes:
        made: the start, and every stage's file.
        ledger: a row for each.
        report: HTML page of the ledger; `ledger.json` lies beside it.
    """

    made: Sequence[Made]
    ledger: Ledger
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "stages": [{"stage": each.name, "file": str(each.file)} for each in self.made],
            "ledger": self.ledger.to_dict(),
            "report": str(self.report),
        }


def compress_file(
    file: Path,
    data: Path,
    out: Path,
    plan: CompressionPlan,
    *,
    repeats: int = 20,
    say: Say = lambda text: None,
    progress: Progress = lambda text: nullcontext(lambda done, total: None),
) -> Compressed:
    """Compress the checkpoint `file` with the data set in the folder `data`.

    Each stage leaves a file of its own in `out`; what is there of the same plan is not made again.
    All of them are then measured side by side on the test images (`val` where there are none).

    Args:
        repeats: timed runs of each stage in each runtime.
        say: called with a line about what is being done.
        progress: gives the context in which something countable is done.

    Raises:
        InputError: a file or the data cannot be used, or there is nothing to do.
    """
    made = [Made("start", file), *run_stages(file, plan.stages(data), out, say=say)]
    ledger = measure(made, data, out, repeats=repeats, say=say, progress=progress)
    with write_atomically(out / "ledger.json") as temporary:
        temporary.write_text(json.dumps(ledger.to_dict(), indent=1) + "\n", encoding="utf-8")
    report = out / "ledger.html"
    write_ledger_report(ledger, report, title="What compression gave and cost", subtitle=str(file))
    return Compressed(tuple(made), ledger, report)
