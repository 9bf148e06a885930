"""How long each layer takes, by a runtime's own profiler, and what a layer is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from flyweight.core.errors import InputError
from flyweight.profiling.stopwatch import Timing

# A detector's network, as its weights are called in an exported file.
NETWORK_PREFIX = "model."
WEIGHT_SUFFIXES = (".weight", ".bias")


@dataclass(frozen=True)
class LayerTime:
    """One operator that a runtime runs, what is fused into it included.

    Attributes:
        layer: dotted path of the module, as in `Operation.layer`; where a file does not keep it,
            the common part of the paths before it; empty where there is none.
        operator: the runtime's name of it.
        milliseconds: median over the runs.
        spread: half the distance between the quartiles.
    """

    layer: str
    operator: str
    milliseconds: float
    spread: float


@dataclass(frozen=True)
class LayerTimes:
    """A network's run, layer by layer.

    Attributes:
        runtime: `torch`, `onnxruntime` or `openvino`.
        threads: of one inference.
        layers: in the order in which they run.
        run: the whole run without the profiler.
        profiled_run: the whole run with it; the difference is what watching costs.
    """

    runtime: str
    threads: int
    layers: tuple[LayerTime, ...]
    run: Timing
    profiled_run: Timing

    def by_layer(self) -> dict[str, float]:
        """Milliseconds of each layer name, all its operators together."""
        total: dict[str, float] = {}
        for each in self.layers:
            total[each.layer] = total.get(each.layer, 0.0) + each.milliseconds
        return total

    @property
    def sum_of_layers(self) -> float:
        """Milliseconds of all layers; the run takes longer by what is between them."""
        return sum(each.milliseconds for each in self.layers)

    def notes(self) -> list[str]:
        """Sentences on how far the times can be believed; none where nothing is to be said."""
        if self.run.disturbed or self.profiled_run.disturbed:
            return [
                f"Other processes used the cores: {self.run.milliseconds:.1f} ms are more than the "
                "network takes. Stop them, or wait, and measure again."
            ]
        return []


@dataclass(frozen=True)
class GraphNode:
    """A node of an exported graph: names of the values it reads and writes."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def name_layers(nodes: Iterable[GraphNode], constants: Mapping[str, str]) -> dict[str, str]:
    """The layer of each node and of each value, by name.

    An exported file has no modules, but its weights keep their names. A node that reads weights has
    their layer; any other that which it reads from, or the common part of several.

    Args:
        nodes: in an order in which each is after those it reads from.
        constants: of each value that does not depend on the input, the name it was given.
    """
    layers: dict[str, str] = {}
    fixed = {value: _layer_of_weight(name) for value, name in constants.items()}
    for node in nodes:
        given = [name for name in node.inputs if name]
        weights = [fixed[name] for name in given if fixed.get(name)]
        read = [layers.get(name, "") for name in given if name not in fixed]
        if given and all(name in fixed for name in given):
            # a weight on its way, such as one that is reshaped or dequantised
            fixed |= dict.fromkeys(node.outputs, weights[0] if weights else "")
            continue
        layer = weights[0] if weights else common_layer(read)
        layers |= dict.fromkeys((node.name, *node.outputs), layer)
    return layers


def common_layer(layers: Sequence[str]) -> str:
    """The longest dotted path that all of `layers` are in; empty if there is none."""
    parts = [layer.split(".") for layer in layers if layer]
    same = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return ".".join(names[0] for names in same)


def median_layers(rows: Sequence[Sequence[tuple[str, str, float]]]) -> tuple[LayerTime, ...]:
    """Medians and spreads of `(layer, operator, milliseconds)` over runs.

    Args:
        rows: of each run its operators, the same ones in the same order.

    Raises:
        InputError: the runs differ in their operators.
    """
    first = [row[:2] for row in rows[0]] if rows else []
    if not first or any([row[:2] for row in run] != first for run in rows):
        raise InputError("the profiler's runs differ in their operators: none can be compared")
    times = np.array([[row[2] for row in run] for run in rows])
    low, middle, high = np.percentile(times, [25, 50, 75], axis=0)
    return tuple(
        LayerTime(layer, operator, float(median), float(spread))
        for (layer, operator), median, spread in zip(first, middle, (high - low) / 2, strict=True)
    )


def fill_layers(rows: Iterable[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    """`(layer, operator, milliseconds)` with a layer where a runtime put in an operator of its own.

    Changes of memory layout and the like belong to what ran before them.
    """
    filled: list[tuple[str, str, float]] = []
    for layer, operator, milliseconds in rows:
        before = filled[-1][0] if filled else ""
        filled.append((layer or before, operator, milliseconds))
    return filled


def _layer_of_weight(name: str) -> str:
    for suffix in WEIGHT_SUFFIXES:
        head, found, _ = name.partition(suffix)
        if found and "." in head:
            return head.removeprefix(NETWORK_PREFIX)
    return ""
