"""Ceilings are the most that was reached: by hand, with stopwatches that say what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flyweight.core.errors import CheckError, InputError
from flyweight.profiling import ceilings
from flyweight.profiling.ceilings import (
    Ceilings,
    Workload,
    measure_ceilings,
    most_reached,
)

MEGABYTE = 1 << 20


class FakeLoad:
    """A machine on which others keep `busy` cores at work."""

    busy = 0.0

    def others(self) -> float:
        return self.busy


@pytest.fixture(autouse=True)
def _a_small_calm_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "PAUSE_S", 0.0)
    monkeypatch.setattr(ceilings, "Load", FakeLoad)
    monkeypatch.setattr(ceilings, "COPY_BYTES", MEGABYTE)


def nothing() -> None:
    """Takes as long as a stopwatch says."""


def saying(*seconds: float) -> Callable[[object], float]:
    """A stopwatch that gives `seconds` one after the other."""
    told: Iterator[float] = iter(seconds)
    return lambda _: next(told)


def test_the_quickest_runs_count() -> None:
    # 10⁹ operations in 0.01 s are 100 GFLOP/s; what others slow down is left out
    stopwatch = saying(0.5, 0.01, 0.0104, 3.0, 0.0102)
    reached, disturbed = most_reached(
        {"fp32": Workload(nothing, 1e9)}, rounds=5, stopwatch=stopwatch
    )
    assert reached == {"fp32": pytest.approx(100)}
    assert not disturbed


def test_it_goes_on_until_the_highest_came_three_times() -> None:
    stopwatch = saying(0.5, 0.02, 0.01, 0.02, 0.0101, 0.03, 0.0102, 0.0001)
    reached, _ = most_reached({"fp32": Workload(nothing, 1e9)}, rounds=3, stopwatch=stopwatch)
    assert reached == {"fp32": pytest.approx(100)}


def test_what_never_comes_again_is_refused() -> None:
    stopwatch = saying(*(0.01 * 2**round for round in range(9)))
    with pytest.raises(CheckError, match=r"fp32 varies too much.*stop them"):
        most_reached({"fp32": Workload(nothing, 1e9)}, rounds=3, stopwatch=stopwatch)


def test_a_limit_that_is_not_needed_is_left_out_where_it_does_not_come_again() -> None:
    workloads = {"fp32 torch": Workload(nothing, 1e9), "int8 torch": Workload(nothing, 1e9)}
    seconds = [each for round in range(9) for each in (0.01, 0.01 * 2**round)]
    needed = frozenset({"fp32"})
    reached, _ = most_reached(workloads, rounds=3, needed=needed, stopwatch=saying(*seconds))
    assert reached == {"fp32 torch": pytest.approx(100)}
    with pytest.raises(CheckError, match="int8 torch varies"):
        most_reached(workloads, rounds=3, needed=needed | {"int8"}, stopwatch=saying(*seconds))


def test_others_all_along_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLoad, "busy", 1.4)
    workloads = {"fp32": Workload(nothing, 1e9)}
    assert most_reached(workloads, rounds=3, stopwatch=lambda _: 0.01)[1]


def test_every_precision_of_a_machine() -> None:
    found = measure_ceilings(threads=1, rounds=1, stopwatch=lambda _: 0.01)
    # whatever takes 10 ms at a side of 64 is not tried at larger ones
    assert {"fp32", "int8"} <= found.gflops.keys()
    assert set(found.gflops.values()) == {2 * 64**3 / 0.01 / 1e9}
    assert found.bandwidth_gbs == 2 * MEGABYTE / 0.01 / 1e9
    assert found.threads == 1


def test_quick_products_are_measured_at_their_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "GEMM_SIDES", (32, 16))
    found = measure_ceilings(threads=1, rounds=1, stopwatch=lambda _: 1e-6)
    assert found.gflops["fp32"] == 2 * 32**3 / 1e-6 / 1e9


def test_two_measurements_have_the_higher_limits() -> None:
    one = Ceilings({"fp32": 100.0, "bf16": 3.0}, 5.0, 2, disturbed=True)
    other = Ceilings({"fp32": 90.0, "int8": 200.0}, 20.0, 2)
    both = one.higher(other)
    assert both == Ceilings({"fp32": 100.0, "bf16": 3.0, "int8": 200.0}, 20.0, 2)
    assert one.higher(replace(other, disturbed=True)).disturbed


def test_the_roof() -> None:
    found = Ceilings({"fp32": 100.0, "int8": 300.0}, 20.0, 2)
    assert found.ridge() == 5.0
    assert found.ridge("int8") == 15.0
    assert found.attainable_gflops(1.0) == 20.0
    assert found.attainable_gflops(5.0) == 100.0
    assert found.attainable_gflops(80.0) == 100.0
    assert found.attainable_gflops(80.0, "int8") == 300.0
    with pytest.raises(InputError, match="bf16"):
        found.ridge("bf16")
