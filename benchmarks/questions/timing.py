"""Networks timed in turns in several runtimes, with what they cost beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.probe_runs import open_probe
from flyweight.profiling.stopwatch import time_in_turns
from flyweight.profiling.trace import trace

ROUNDS = 40
# As long as a network of usual size.
TURN_S = 0.02
IMAGENET_CLASSES = 1000
LABELS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}
# Eager torch chooses its operators one by one, and nobody ships it on a device.
DEPLOYED = ("onnxruntime", "openvino")

Call = Callable[[], object]
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """How a question is measured.

    Attributes:
        runtimes: names of `probe_runs.RUNTIMES`.
        threads: of one inference.
        seconds: of measuring, warm-up not counted; fewer rounds where it does not suffice.
    """

    runtimes: tuple[str, ...]
    threads: int
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """A network of a question.

    Attributes:
        name: unlike any other's.
        cost: its operations.
        facts: what the tables show of it, ready for JSON.
        calls: ways to run it beside those of its operations, by column of the table.
    """

    name: str
    cost: NetworkCost
    facts: Mapping[str, Any] = field(default_factory=dict)
    calls: Mapping[str, Call] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What a file here answers.

    Attributes:
        measure: the figures, ready for JSON; `rows` are those of `time_candidates`.
        tables: Markdown by the name of its place in the article.
        pictures: SVG by file name.
        runtimes: that are measured unless others are asked for.
    """

    measure: Callable[[Setting], dict[str, Any]]
    tables: Callable[[dict[str, Any]], dict[str, str]]
    pictures: Callable[[dict[str, Any]], dict[str, str]] = lambda result: {}
    runtimes: tuple[str, ...] = DEPLOYED


class GlobalMean(nn.Module):
    """Global average pooling that leaves one cell: `[B, C, H, W]` to `[B, C, 1, 1]`."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of each channel."""
        return x.mean((2, 3), keepdim=True)


class Coarsest(nn.Module):
    """The last level of a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H / 32, W / 32]."""
        coarsest: Tensor = self.backbone(x)[-1]
        return coarsest


def classifier(backbone: Backbone) -> nn.Module:
    """With ImageNet's classes as a 1×1 convolution, as MobileNetV2's table 2 writes it."""
    channels = backbone.feature_info[-1].channels
    return nn.Sequential(Coarsest(backbone), GlobalMean(), nn.Conv2d(channels, IMAGENET_CLASSES, 1))


def stack(layers: Sequence[nn.Module], *, side: int) -> NetworkCost:
    """Layers one after the other on a map of `side` × `side` cells."""
    first = next(each for each in layers[0].modules() if isinstance(each, nn.Conv2d))
    return trace(nn.Sequential(*layers), (1, first.in_channels, side, side))


def picture_cost(network: nn.Module, side: int) -> NetworkCost:
    """Of a network that takes pictures of `side` × `side` pixels."""
    return trace(network, (1, 3, side, side))


def time_candidates(candidates: Sequence[Candidate], setting: Setting) -> list[Row]:
    """All of them in all runtimes, in turns: a row each."""
    torch.set_num_threads(setting.threads)
    calls: dict[tuple[str, str], Call] = {}
    for each in candidates:
        for runtime in setting.runtimes:
            calls[each.name, runtime] = open_probe(
                each.cost, runtime=runtime, threads=setting.threads
            )
        calls |= {(each.name, column): call for column, call in each.calls.items()}
    times = time_calls(calls, setting)
    return [
        {
            "name": each.name,
            **each.facts,
            "mmacs": round(each.cost.macs / 1e6, 3),
            "mparams": round(each.cost.params / 1e6, 4),
            "access_mb": round(each.cost.access_bytes / 1e6, 3),
            "times": {column: time for (name, column), time in times.items() if name == each.name},
        }
        for each in candidates
    ]


def time_calls(
    calls: Mapping[tuple[str, str], Call], setting: Setting
) -> dict[tuple[str, str], Row]:
    """Of each call its median in milliseconds and half the distance between its quartiles.

    What is short runs several times a turn, and the mean of a turn counts as one run.
    """
    names = {"\n".join(key): key for key in calls}
    repeats = {name: _repeats(calls[key]) for name, key in names.items()}
    timings = time_in_turns(
        {name: _repeated(calls[key], repeats[name]) for name, key in names.items()},
        rounds=ROUNDS,
        seconds=setting.seconds,
    )
    return {
        names[name]: {
            "ms": round(timing.milliseconds / repeats[name], 4),
            "spread": round(timing.spread / repeats[name], 4),
            "runs": timing.runs,
            "disturbed": timing.disturbed,
        }
        for name, timing in timings.items()
    }


def _repeats(call: Call) -> int:
    """How often it fits into a turn; at least once."""
    for _ in range(2):  # the first run may allocate and choose kernels
        start = time.perf_counter()
        call()
        spent = time.perf_counter() - start
    return max(1, round(TURN_S / spent))


def _repeated(call: Call, times: int) -> Call:
    def run() -> object:
        for _ in range(times):
            call()
        return None

    return run
