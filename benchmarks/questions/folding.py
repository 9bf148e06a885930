"""What folding BatchNorm buys in each runtime, and what GroupNorm costs, which does not fold.

MobileNetV1 and V2 with BatchNorm in the file, folded, and with GroupNorm. ONNX Runtime also with
its own folding switched off. (`benchmarks/folding.py` times MobileNet-SSD as it is exported.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.mobilenet_v1 import MobileNetV1
from flyweight.models.backbones.mobilenet_v2 import MobileNetV2
from flyweight.models.layers.group_norm import group_norm
from flyweight.profiling.probe_onnx import to_onnx
from questions.graphs import open_graph
from questions.markdown import NOTHING, by_name, labels, shown_ms, table
from questions.timing import (
    LABELS,
    Candidate,
    Question,
    Row,
    Setting,
    classifier,
    picture_cost,
    time_candidates,
)

SIDE = 224
FAMILIES: dict[str, Callable[..., Backbone]] = {
    "MobileNetV1": MobileNetV1,
    "MobileNetV2": MobileNetV2,
}
# small enough for the narrowest layers, and a divisor of all
CHANNELS_PER_GROUP = 8
NORMS = ("BatchNorm, folded", "BatchNorm", "GroupNorm")
AS_IT_IS = "onnxruntime unfolded"
# what ONNX Runtime calls its own folding
FOLDING = ("ConvBNFusion",)


def measure(setting: Setting) -> dict[str, Any]:
    """Every norm in every runtime."""
    factories: dict[str, Callable[[int], nn.Module] | None] = {
        NORMS[0]: None,
        NORMS[1]: nn.BatchNorm2d,
        NORMS[2]: lambda channels: group_norm(channels, channels_per_group=CHANNELS_PER_GROUP),
    }
    candidates = []
    for family, make in FAMILIES.items():
        for norm, factory in factories.items():
            cost = picture_cost(classifier(make(norm=factory, outputs="classifier")), SIDE)
            calls = {}
            if norm == NORMS[1] and "onnxruntime" in setting.runtimes:
                calls[AS_IT_IS] = open_graph(
                    to_onnx(cost), runtime="onnxruntime", threads=setting.threads, without=FOLDING
                )
            candidates.append(Candidate(f"{family}, {norm}", cost, calls=calls))
    return {"rows": time_candidates(candidates, setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Milliseconds, and times the folded network."""
    rows = by_name(result)
    columns = [
        each for each in (*LABELS, AS_IT_IS) if each in rows["MobileNetV1, BatchNorm"]["times"]
    ]
    lines = []
    for family in FAMILIES:
        folded = rows[f"{family}, {NORMS[0]}"]
        for norm in NORMS:
            row = rows[f"{family}, {norm}"]
            lines.append([family, norm, *(_cell(row, folded, each) for each in columns)])
    head = labels([each for each in columns if each != AS_IT_IS])
    head += ["ONNX Runtime, not folding"] if AS_IT_IS in columns else []
    return {"folding": table(["network", "norm", *head], lines, words=2)}


def _cell(row: Row, folded: Row, column: str) -> str:
    if column not in row["times"]:
        return NOTHING
    base = folded["times"][column.partition(" ")[0]]["ms"]
    return f"{shown_ms(row, column)} ({row['times'][column]['ms'] / base:.2f})"


QUESTION = Question(measure, tables, runtimes=tuple(LABELS))
