"""What a rule has to say: the layers that break it, what changes, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flyweight.profiling.latency_model import LatencyModel
from flyweight.profiling.operation import NetworkCost


@dataclass(frozen=True)
class Price:
    """Figures of a network, or the difference of two: positive is saved, negative is paid.

    Attributes:
        params: weights.
        macs: multiply-accumulate pairs of one pass.
        access_bytes: read and written in one pass.
        milliseconds: of one pass, predicted; None without a model of the device.
    """

    params: int
    macs: int
    access_bytes: int
    milliseconds: float | None = None

    def __sub__(self, other: Price) -> Price:
        known = self.milliseconds is not None and other.milliseconds is not None
        return Price(
            params=self.params - other.params,
            macs=self.macs - other.macs,
            access_bytes=self.access_bytes - other.access_bytes,
            milliseconds=self.milliseconds - other.milliseconds if known else None,  # type: ignore[operator]
        )

    @property
    def gain(self) -> float:
        """What counts where only one figure can: milliseconds where they are known, else MACs."""
        return self.macs if self.milliseconds is None else self.milliseconds


def price_of(cost: NetworkCost, latency: LatencyModel | None = None) -> Price:
    """The figures of a network."""
    return Price(
        params=cost.params,
        macs=cost.macs,
        access_bytes=cost.access_bytes,
        milliseconds=None if latency is None else latency.predict(cost).milliseconds,
    )


@dataclass(frozen=True)
class Advice:
    """One finding of one rule.

    Attributes:
        rule: its name, such as `equal_channels`.
        finding: what is there, with figures.
        change: what to do about it.
        source: where the rule comes from.
        layers: that break it, in the order in which they run.
        saving: what the change saves.
        fields: of the detector's config, with the values that make the change; empty where no
            field does.
        serves: "cost", or "accuracy": then it is worth having although it saves nothing.
    """

    rule: str
    finding: str
    change: str
    source: str
    layers: tuple[str, ...]
    saving: Price
    fields: Mapping[str, Any] = field(default_factory=dict)
    serves: str = "cost"

    @property
    def rebuilt(self) -> bool:
        """True where the saving is the difference of two traced networks; else only the operations
        of `layers` were priced anew, and everything around them was left as it is."""
        return bool(self.fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "rule": self.rule,
            "finding": self.finding,
            "change": self.change,
            "source": self.source,
            "layers": list(self.layers),
            "saved_ms": self.saving.milliseconds,
            "saved_params": self.saving.params,
            "saved_macs": self.saving.macs,
            "saved_bytes": self.saving.access_bytes,
            "priced_by": "rebuilding" if self.rebuilt else "its operations alone",
            "serves": self.serves,
            "fields": dict(self.fields),
        }
