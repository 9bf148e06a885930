"""What predicts the latency of a network that nobody has built yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flyweight.profiling.operation import NetworkCost


class Prediction(Protocol):
    """Milliseconds of one pass, and of each operation in the network's order."""

    @property
    def milliseconds(self) -> float: ...

    @property
    def by_operation(self) -> Sequence[float]: ...


class LatencyModel(Protocol):
    """`flyweight.profiling.device_model.DeviceModel` is one; tests have simpler ones."""

    def predict(self, cost: NetworkCost) -> Prediction: ...
