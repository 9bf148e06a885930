"""How long a network that nobody built will take on a device that was measured once.

A calibration times some hundreds of small networks (`probes.py`). Their work (`work.py`), times the
device's rates, gives their times: the rates are found by least squares on relative errors and are
never negative, so that a prediction has a meaning outside of what was measured, too. That what is
priced is not the layer but the kernel, with what a runtime fuses into it, follows nn-Meter (Zhang
et al., MobiSys 2021).
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.profiling.fusion import fused_into
from flyweight.profiling.least_squares import nonnegative_least_squares
from flyweight.profiling.operation import NetworkCost, Operation
from flyweight.profiling.probe_runs import RUNTIMES
from flyweight.profiling.probes import Probe, draft
from flyweight.profiling.work import Work, fused_work, operation_work, surrounding_work

FORMAT = "flyweight-calibration-1"
PRECISION = "fp32"
FEWEST_PROBES = 30
# Rounds in which equations that fit badly, disturbed as they may be, lose weight.
ROBUST_ROUNDS = 5
RESTARTED_MS = 1.0


@dataclass(frozen=True)
class MeasuredProbe:
    """One small network and how long it took, as `stopwatch.time_call` timed it."""

    probe: Probe
    milliseconds: float
    spread: float = 0.0
    restart: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """What a network will take.

    Attributes:
        milliseconds: of one run, a picture taken in and predictions decoded: `network_ms` of
            `flyweight bench`.
        by_operation: of each operation of the network; 0.0 for one that runs inside another.
        surroundings: of what is no operation of the network: the start of a run after a pause, the
            picture, the decoding.
        unknown: kinds of operators that were not measured on this device; they are taken to cost
            what an addition of their size costs.
    """

    milliseconds: float
    by_operation: tuple[float, ...]
    surroundings: float
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceModel:
    """A device, a runtime and a number of threads, as a calibration found them.

    Attributes:
        runtime: `torch`, `onnxruntime` or `openvino`.
        threads: of one inference.
        machine: what was measured: processor, cores, system, versions.
        measured: all probes with their times.
    """

    runtime: str
    threads: int
    machine: dict[str, Any] = field(default_factory=dict)
    measured: tuple[MeasuredProbe, ...] = ()

    @property
    def description(self) -> str:
        """What was measured, for those who were sent the file."""
        machine = self.machine
        version = machine.get("versions", {}).get(self.runtime, "")
        return (
            f"{machine.get('processor', 'unknown processor')}, "
            f"{machine.get('cores', '?')} cores, {machine.get('system', 'unknown system')}; "
            f"{f'{self.runtime} {version}'.strip()} in {PRECISION} with {self.threads} threads, "
            f"{len(self.measured)} operators measured"
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DeviceModel:
        """Read what `save` wrote, here or elsewhere.

        Raises:
            InputError: the file is missing, no calibration, or has too few measurements.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                "the calibration cannot be read",
                where=path,
                fix="run `flyweight profile --calibrate`",
            ) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(
                "the file is no calibration", where=path, fix="give one that --calibrate wrote"
            )
        try:
            measured = tuple(
                MeasuredProbe((str(kind), *numbers), *map(float, times))
                for (kind, *numbers), *times in content["measured"]
            )
            model = cls(
                content["runtime"], int(content["threads"]), dict(content["machine"]), measured
            )
            for each in measured:
                draft(each.probe)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "the calibration is damaged", where=path, fix="calibrate anew"
            ) from error
        if content.get("precision", PRECISION) != PRECISION:
            raise InputError(
                f"the calibration is of {content['precision']}",
                where=path,
                fix=f"give one of {PRECISION}",
            )
        if model.runtime not in RUNTIMES or not all(
            each.milliseconds > 0 and math.isfinite(each.milliseconds) for each in measured
        ):
            raise InputError("the calibration is damaged", where=path, fix="calibrate anew")
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a small JSON, whole or not at all."""
        rows = [
            [
                list(each.probe),
                *(round(time, 5) for time in (each.milliseconds, each.spread, each.restart)),
            ]
            for each in self.measured
        ]
        head = {
            "format": FORMAT,
            "runtime": self.runtime,
            "precision": PRECISION,
            "threads": self.threads,
            "machine": self.machine,
        }
        # a measurement a line: readable, and small in a diff
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        text = json.dumps(head, indent=1)[:-2] + f',\n "measured": [\n  {lines}\n ]\n}}\n'
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @cached_property
    def rates(self) -> dict[str, float]:
        """Milliseconds that a unit of each amount of work takes, from the measurements.

        Raises:
            InputError: there are too few of them.
        """
        if len(self.measured) < FEWEST_PROBES:
            raise InputError(
                f"the calibration has {len(self.measured)} of at least {FEWEST_PROBES} probes",
                fix="run `flyweight profile --calibrate` again: it goes on where it ended",
            )
        works = [network_work(draft(each.probe), self.runtime) for each in self.measured]
        return fit_rates(works, [each.milliseconds for each in self.measured])

    @cached_property
    def restart(self) -> float:
        """Milliseconds that a run takes longer soon after a pause, whatever is run.

        Threads are woken and clocks rise, which is over after a millisecond or two: probes that
        are shorter than that have a part of it, a network has it whole.
        """
        whole = [each.restart for each in self.measured if each.milliseconds >= RESTARTED_MS]
        return max(0.0, float(np.median(whole))) if whole else 0.0

    def predict(self, cost: NetworkCost) -> Prediction:
        """How long one run of a network will take.

        Args:
            cost: of one image, from `flyweight.profiling.trace`; with its norms folded where that
                is what will run. Norms that fold cost nothing outside torch.
        """
        rates, unknown = self.rates, set()
        spent = [0.0] * len(cost.operations)
        works, surroundings = operation_works(cost, self.runtime)
        for index, (head, work) in enumerate(works):
            operation = cost.operations[index]
            if head == index and not any(name in rates for name in work):
                unknown.add(operation.kind)
                work = operation_work(_as_addition(operation))
            spent[head] += sum(rates.get(name, 0.0) * amount for name, amount in work.items())
        around = sum(rates.get(name, 0.0) * amount for name, amount in surroundings.items())
        around += self.restart
        return Prediction(sum(spent) + around, tuple(spent), around, tuple(sorted(unknown)))


def operation_works(cost: NetworkCost, runtime: str) -> tuple[list[tuple[int, Work]], Work]:
    """Of each operation the one it runs in and its work; and the work around them."""
    heads = fused_into(cost, runtime=runtime)
    works = [
        (head, operation_work(each) if head == index else fused_work(each))
        for index, (head, each) in enumerate(zip(heads, cost.operations, strict=True))
    ]
    return works, surrounding_work(cost)


def network_work(cost: NetworkCost, runtime: str) -> Work:
    """All work of a run."""
    works, surroundings = operation_works(cost, runtime)
    total: Counter[str] = Counter()
    for work in (*(work for _, work in works), surroundings):
        for name, amount in work.items():
            total[name] += amount  # type: ignore[assignment]
    return dict(total)


def fit_rates(works: Sequence[Work], milliseconds: Sequence[float]) -> dict[str, float]:
    """Rates `>= 0` with which work comes closest to its time, in relative terms.

    Squares let a few disturbed measurements pull at all rates, so what fits badly loses weight
    (iteratively reweighted least squares towards the least sum of absolute errors).
    """
    names = sorted({name for work in works for name in work})
    amounts = np.array([[work.get(name, 0.0) for name in names] for work in works])
    relative = amounts / np.asarray(milliseconds)[:, None]
    scale = relative.max(axis=0)
    relative = relative[:, scale > 0] / scale[scale > 0]
    kept = [name for name, largest in zip(names, scale, strict=True) if largest > 0]
    weights = np.ones(len(works))
    for _ in range(ROBUST_ROUNDS):
        found = nonnegative_least_squares(relative * weights[:, None], weights)
        errors = np.abs(relative @ found - 1)
        weights = 1 / np.sqrt(np.maximum(errors, 0.05))
    return dict(zip(kept, (found / scale[scale > 0]).tolist(), strict=True))


def _as_addition(operation: Operation) -> Operation:
    return Operation(
        operation.layer, "add", operation.inputs, (operation.output_shape,), operation.output_shape
    )
