"""What ReLU6, h-swish, SiLU and squeeze-and-excitation cost, in float and in int8.

MobileNetV1 with one activation throughout, and MobileNetV3-Large without its gates, without its
h-swish, and without both. MACs are the same up to the gates' few. int8 is one file, quantised as
`flyweight export` does it, in both runtimes.
"""

from __future__ import annotations

from typing import Any

import onnx
from torch import nn

from flyweight.models.backbones.mobilenet_v1 import MobileNetV1
from flyweight.models.backbones.mobilenet_v3 import mobilenet_v3_large
from flyweight.models.layers.activations import ActFactory, hard_swish, relu, relu6
from flyweight.models.layers.inverted_residual import InvertedResidual
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.probe_onnx import to_onnx
from questions.graphs import open_graph, quantised
from questions.markdown import NOTHING, by_name, shown_ms, table
from questions.timing import (
    LABELS,
    Call,
    Candidate,
    Question,
    Row,
    Setting,
    classifier,
    picture_cost,
    time_candidates,
)

SIDE = 224


def silu() -> nn.Module:
    """x · sigmoid(x), of which h-swish is the cheap form."""
    return nn.SiLU(inplace=True)


ACTIVATIONS: dict[str, ActFactory] = {
    "ReLU": relu,
    "ReLU6": relu6,
    "h-swish": hard_swish,
    "SiLU": silu,
}
# with squeeze-and-excitation, with h-swish
V3_VARIANTS = ((True, True), (False, True), (True, False), (False, False))


def measure(setting: Setting) -> dict[str, Any]:
    """Every variant in every runtime, and in int8 where the runtime has it."""
    networks = {
        f"MobileNetV1, {name}": MobileNetV1(norm=None, act=act, outputs="classifier")
        for name, act in ACTIVATIONS.items()
    } | {_v3_name(*each): mobilenet_v3(*each) for each in V3_VARIANTS}
    costs = {name: picture_cost(classifier(network), SIDE) for name, network in networks.items()}
    candidates = [
        Candidate(name, cost, calls=int8_calls(cost, setting)) for name, cost in costs.items()
    ]
    return {"rows": time_candidates(candidates, setting)}


def mobilenet_v3(gates: bool, swish: bool) -> nn.Module:
    """MobileNetV3-Large, its gates left out, its h-swish replaced by ReLU."""
    network = mobilenet_v3_large(norm=None, outputs="classifier")
    for parent in list(network.modules()):
        if isinstance(parent, InvertedResidual) and not gates:
            parent.squeeze = nn.Identity()
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Hardswish) and not swish:
                setattr(parent, name, relu())
    return network


def int8_calls(cost: NetworkCost, setting: Setting) -> dict[str, Call]:
    """The quantised network in the runtimes that are asked for."""
    runtimes = [each for each in setting.runtimes if each != "torch"]
    if not runtimes:
        return {}
    content = quantised(onnx.load_from_string(to_onnx(cost))).SerializeToString()
    return {
        f"{runtime} int8": open_graph(content, runtime=runtime, threads=setting.threads)
        for runtime in runtimes
    }


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Milliseconds, and times the network with plain ReLU and no gates."""
    rows = by_name(result)
    columns = [
        column
        for runtime in LABELS
        for column in (runtime, f"{runtime} int8")
        if any(column in row["times"] for row in rows.values())
    ]
    plain = rows["MobileNetV1, ReLU"]
    first = [
        [name, *(_cell(rows[f"MobileNetV1, {name}"], plain, each) for each in columns)]
        for name in ACTIVATIONS
    ]
    bare = rows[_v3_name(False, False)]
    second = [
        [
            "yes" if gates else "no",
            "h-swish" if swish else "ReLU",
            f"{rows[_v3_name(gates, swish)]['mmacs']:.0f}",
            *(_cell(rows[_v3_name(gates, swish)], bare, each) for each in columns),
        ]
        for gates, swish in V3_VARIANTS
    ]
    head = [
        f"{LABELS[runtime]}{', ' if precision else ''}{precision}"
        for runtime, _, precision in (column.partition(" ") for column in columns)
    ]
    return {
        "activations": table(["activation", *head], first),
        "gates": table(["gates (SE)", "activation", "MMACs", *head], second, words=2),
    }


def _cell(row: Row, base: Row, column: str) -> str:
    if column not in row["times"]:
        return NOTHING
    return (
        f"{shown_ms(row, column)} ({row['times'][column]['ms'] / base['times'][column]['ms']:.2f})"
    )


def _v3_name(gates: bool, swish: bool) -> str:
    return (
        f"MobileNetV3-Large, {'gates' if gates else 'no gates'}, {'h-swish' if swish else 'ReLU'}"
    )


QUESTION = Question(measure, tables)
