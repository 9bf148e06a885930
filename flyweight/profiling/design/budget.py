"""What a detector may cost: "8 ms", "500 MMACs", "2 MB", "1.5 M params"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flyweight.core.errors import InputError
from flyweight.profiling.advice.advice import Price
from flyweight.profiling.operation import FLOAT_BYTES

MILLISECONDS, MACS, BYTES, PARAMS = "milliseconds", "macs", "bytes", "params"
# By the unit as it is written, in small letters: the figure it limits, and how many it stands for.
UNITS = {
    "ms": (MILLISECONDS, 1.0),
    "s": (MILLISECONDS, 1e3),
    "mmacs": (MACS, 1e6),
    "gmacs": (MACS, 1e9),
    "kb": (BYTES, 1e3),
    "mb": (BYTES, 1e6),
    "kparams": (PARAMS, 1e3),
    "mparams": (PARAMS, 1e6),
}
# How a figure is shown: the unit and how many it stands for.
SHOWN = {
    MILLISECONDS: ("ms", 1.0),
    MACS: ("MMACs", 1e6),
    BYTES: ("MB", 1e6),
    PARAMS: ("M params", 1e6),
}


@dataclass(frozen=True)
class Budget:
    """A limit of one figure.

    Attributes:
        metric: "milliseconds", "macs", "bytes" (of the weights in float32) or "params".
        limit: in ones of it.
    """

    metric: str
    limit: float

    def spent(self, price: Price) -> float:
        """What a network takes of it, in the unit of `limit`."""
        if self.metric == MILLISECONDS:
            if price.milliseconds is None:
                raise InputError(
                    "a budget in milliseconds needs a model of the device",
                    where="--budget",
                    fix="make one with: flyweight profile --calibrate FILE, and give it as "
                    "--device-model FILE; or give a budget in MMACs",
                )
            return price.milliseconds
        if self.metric == BYTES:
            return float(FLOAT_BYTES * price.params)
        return float(getattr(price, self.metric))

    def shown(self, value: float) -> str:
        """A value of the metric with its unit."""
        unit, ones = SHOWN[self.metric]
        return f"{value / ones:.3g} {unit}" if value / ones < 100 else f"{value / ones:,.0f} {unit}"


def parse_budget(text: str) -> Budget:
    """A budget from words such as "8 ms".

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z ]+?)\s*", text.replace(",", ""))
    unit = found.group(2).replace(" ", "").lower() if found else ""
    if found is None or unit not in UNITS or not float(found.group(1)) > 0:
        raise InputError(
            f"'{text}' is no budget",
            where="--budget",
            fix='write e.g. "8 ms", "500 MMACs", "2 MB" or "1.5 M params"',
        )
    metric, ones = UNITS[unit]
    return Budget(metric, float(found.group(1)) * ones)
