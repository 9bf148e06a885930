"""Timing: medians of calm runs, and disturbed ones told apart."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyweight.profiling import stopwatch
from flyweight.profiling.stopwatch import Durations, Load, time_call, time_in_turns


def test_disturbed_runs_do_not_count() -> None:
    durations = Durations(calm=[2.0, 1.0, 3.0, 2.0, 2.0], disturbed=[50.0, 60.0])
    timing = durations.timing()
    assert (timing.milliseconds, timing.runs, timing.disturbed) == (2.0, 5, False)
    assert timing.spread == 0.0


def test_the_quicker_half_counts_where_all_are_disturbed() -> None:
    timing = Durations(calm=[1.0], disturbed=[2.0, 3.0, 8.0, 9.0, 9.0, 9.0, 9.0]).timing()
    assert timing.disturbed
    # of eight the quicker four: 1, 2, 3, 8
    assert (timing.milliseconds, timing.runs) == (2.5, 4)


class FakeTime:
    """A clock that stands still but for pauses and for calls, which take `milliseconds` each.

    The first two calls after a pause take 2 and 0.5 ms more.
    """

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return round(1e9 * self.now)

    def sleep(self, seconds: float) -> None:
        self.now, self.calls = self.now + seconds, 0

    def call(self, milliseconds: float) -> None:
        more = (2.0, 0.5)[self.calls] if self.calls < 2 else 0.0
        self.now, self.calls = self.now + (milliseconds + more) / 1e3, self.calls + 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(stopwatch, "time", fake)
    monkeypatch.setattr(stopwatch, "_own_times", lambda: (0.0, 0.0))
    monkeypatch.setattr(Load, "others", lambda self: 0.0)
    return fake


@pytest.mark.parametrize("milliseconds", [0.3, 4.0])
def test_a_call_takes_what_it_takes(clock: FakeTime, milliseconds: float) -> None:
    timing = time_call(lambda: clock.call(milliseconds))
    assert timing.milliseconds == pytest.approx(milliseconds, rel=1e-3)
    assert timing.restart == pytest.approx(0.5, rel=1e-3)
    assert not timing.disturbed


def test_of_a_long_call_the_second_run_is_the_one_that_counts(clock: FakeTime) -> None:
    timing = time_call(lambda: clock.call(40.0))
    assert timing.milliseconds == pytest.approx(40.5)
    assert timing.restart == 0.0


def test_calls_take_turns(clock: FakeTime) -> None:
    order: list[str] = []
    times = {"a": 1.0, "b": 3.0}

    def call(name: str) -> None:
        order.append(name)
        clock.call(times[name])

    timings = time_in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3)
    # three warming runs each, then in each round one that does not count and one that does
    assert "".join(order) == "aaabbb" + 3 * "aabb"
    assert {name: timing.milliseconds for name, timing in timings.items()} == {
        name: pytest.approx(milliseconds + 0.5) for name, milliseconds in times.items()
    }


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not count cores")
def test_another_process_is_seen() -> None:
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)
        load = Load()
        time.sleep(0.5)
        assert load.others() > 0.1
    finally:
        spinner.kill()
        spinner.wait()
