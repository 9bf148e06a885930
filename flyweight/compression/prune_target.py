"""What a pruned detector may cost: multiply-accumulates, parameters or milliseconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flyweight.compression.prune_widths import Kept, kept_indices, pruned_config
from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.profiling.config_cost import cost_of
from flyweight.profiling.device_model import DeviceModel
from flyweight.profiling.trace import trace_detector

Unit = Literal["macs", "params", "ms"]
UNITS = get_args(Unit)

# From the channels that stay to what the detector then costs.
Cost = Callable[[Kept], float]


@dataclass(frozen=True)
class Target:
    """A share of what the detector costs now, or a figure.

    Attributes:
        share: 0.5 for half; None where there is an `amount`.
        amount: in the unit itself.
        unit: "macs" of one image, "params", or "ms" as `device` predicts them.
        device: of "ms".
    """

    share: float | None = None
    amount: float | None = None
    unit: Unit = "macs"
    device: DeviceModel | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InputError(
                f"unknown unit {self.unit!r}", where="unit", fix=f"choose {', '.join(UNITS)}"
            )
        if (self.share is None) == (self.amount is None):
            raise InputError("a target is either a share or an amount", where="prune")
        if self.share is not None and not 0 < self.share <= 1:
            raise InputError(
                f"share {self.share} is not between 0 and 1", where="prune", fix="0.5 is half"
            )
        if self.amount is not None and not self.amount > 0:
            raise InputError(f"{self.amount} {self.unit} is nothing", where="prune")
        if self.unit == "ms" and self.device is None:
            raise InputError(
                "milliseconds are predicted by a device model",
                where="prune",
                fix="give one from: flyweight profile --calibrate",
            )

    def cost(self, detector: Detector) -> Cost:
        """What `detector` costs in this unit with fewer channels."""
        if self.unit == "macs":
            return _macs(detector)
        if self.unit == "params":
            return _params(detector)
        assert self.device is not None
        return _milliseconds(detector, self.device)

    def limit(self, before: float) -> float:
        """The most that may be left of a detector that costs `before`."""
        if self.amount is not None:
            return self.amount
        assert self.share is not None
        return self.share * before

    def shown(self, cost: float) -> str:
        """A cost for a message."""
        return f"{cost:.2f} ms" if self.unit == "ms" else f"{cost / 1e6:.2f} M {self.unit}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; of the device what it is."""
        device = None if self.device is None else [self.device.runtime, self.device.machine]
        given = {"share": self.share, "amount": self.amount, "device": device}
        return {"unit": self.unit} | {key: v for key, v in given.items() if v is not None}


def _macs(detector: Detector) -> Cost:
    # A layer's are its weights times the places where they are used, which pruning leaves alone:
    # traced once, they are known for all widths.
    macs: Counter[str] = Counter()
    for operation in trace_detector(detector, folded=True).operations:
        macs[operation.layer] += operation.macs
    weights = {
        name.rpartition(".")[0]: (name, each.shape)
        for name, each in detector.model.named_parameters()
        if name.endswith(".weight")
    }

    def cost(kept: Kept) -> float:
        return sum(
            count // math.prod(weights[layer][1]) * _elements(kept, *weights[layer])
            if layer in weights
            else count
            for layer, count in macs.items()
            if count
        )

    return cost


def _params(detector: Detector) -> Cost:
    shapes = {name: each.shape for name, each in detector.model.named_parameters()}

    def cost(kept: Kept) -> float:
        return sum(_elements(kept, name, shape) for name, shape in shapes.items())

    return cost


def _elements(kept: Kept, name: str, shape: Sequence[int]) -> int:
    """How many elements of a tensor stay."""
    indices = kept_indices(kept, name, shape)
    return math.prod(
        len(indices[dim]) if dim in indices else size for dim, size in enumerate(shape)
    )


def _milliseconds(detector: Detector, device: DeviceModel) -> Cost:
    def cost(kept: Kept) -> float:
        return device.predict(cost_of(pruned_config(detector.config, kept))).milliseconds

    return cost
