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


def test_a_call_takes_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "PAUSE_S", 0.0)
    assert time_call(lambda: time.sleep(0.004)).milliseconds == pytest.approx(4, rel=0.5)


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "PAUSE_S", 0.0)
    order: list[str] = []
    timings = time_in_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3
    )
    assert timings.keys() == {"a", "b"}
    # three warming runs each, then in each round one that does not count and one that does
    assert order[:6] == ["a"] * 3 + ["b"] * 3
    assert "".join(order[6:]) == "aabb" * (len(order[6:]) // 4)
    assert 3 <= len(order[6:]) // 4 <= 6


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
