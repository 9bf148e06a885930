"""The cost of a network by layer, by stage or by kind of operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flyweight.profiling.operation import NetworkCost, Operation


@dataclass(frozen=True)
class Part:
    """Operations that are looked at together.

    Attributes:
        name: of the layer, the stage or the kind of operator.
        places: of the operations in the network, in order.
        operations: themselves.
    """

    name: str
    places: Sequence[int]
    operations: Sequence[Operation]

    def total(self, field: str) -> int:
        """Of a figure of the operations that adds up, such as `macs` or `access_bytes`."""
        return sum(getattr(each, field) for each in self.operations)

    @property
    def peak_activation_bytes(self) -> int:
        """The most that activations need while any of it runs, those of others included."""
        return max(each.live_bytes for each in self.operations)

    @property
    def intensity(self) -> float:
        """Floating point operations a byte."""
        done = 2 * self.total("macs") + self.total("elementwise")
        return done / max(self.total("access_bytes"), 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready. Shape, stride and receptive field are of what it gives, and of a layer that
        runs on several maps of what it gives on the first, the finest."""
        shown = self.operations[-1]
        if len(self.layers) == 1:
            kinds = [each.kind for each in self.operations]
            runs_again = kinds.index(kinds[0], 1) if kinds.count(kinds[0]) > 1 else len(kinds)
            shown = self.operations[runs_again - 1]
        return {
            "name": self.name,
            "kinds": list(dict.fromkeys(each.kind for each in self.operations)),
            "calls": len(self.operations),
            "output_shape": list(shown.output_shape),
            "stride": shown.stride,
            "receptive_field": shown.receptive_field,
            "params": self.total("params"),
            "macs": self.total("macs"),
            "elementwise": self.total("elementwise"),
            "memory_access_bytes": self.total("access_bytes"),
            "peak_activation_bytes": self.peak_activation_bytes,
            "intensity": self.intensity,
        }

    @property
    def layers(self) -> tuple[str, ...]:
        """Whose operations they are."""
        return tuple(dict.fromkeys(each.layer for each in self.operations))


def by_layer(cost: NetworkCost) -> list[Part]:
    """One part a module that calls operators, in the order of first calls."""
    return _grouped(cost, [each.layer for each in cost.operations])


def by_operator(cost: NetworkCost) -> list[Part]:
    """One part a kind of operator; depthwise convolutions are one of their own."""
    names = ["conv2d, depthwise" if each.depthwise else each.kind for each in cost.operations]
    return _grouped(cost, names)


def by_stage(cost: NetworkCost) -> list[Part]:
    """One part a stage: the backbone by strides, C1 (stride 2) to C5 (32); neck; each head."""
    return _grouped(cost, stages(cost))


def stages(cost: NetworkCost) -> list[str]:
    """The stage of each operation.

    In the backbone, what has no stride (the gate of a squeeze-and-excitation) belongs to what ran
    before it.
    """
    names, level = [], 0
    for each in cost.operations:
        first, _, rest = each.layer.partition(".")
        if first == "backbone":
            level = each.stride.bit_length() - 1 if each.stride is not None else level
            names.append(f"backbone C{level}")
        elif first == "head" and rest:
            names.append(f"head.{rest.partition('.')[0]}")
        else:
            names.append(first)
    return names


GROUPINGS: dict[str, Callable[[NetworkCost], list[Part]]] = {
    "stage": by_stage,
    "layer": by_layer,
    "operator": by_operator,
}


def _grouped(cost: NetworkCost, names: Sequence[str]) -> list[Part]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return [
        Part(name, own, [cost.operations[place] for place in own]) for name, own in places.items()
    ]
