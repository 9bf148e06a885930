"""Timing on a machine that others use, too: what was timed while they did is told apart."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

PROC = Path("/proc")
# user, nice, system, irq, softirq, steal: time in which a core did not wait (man 5 proc)
BUSY_COLUMNS = (1, 2, 3, 6, 7, 8)
WARMUP_RUNS = 3
LEAST_RUNS = 5
BURST_S = 0.01
# Waking a sleeping thread takes some microseconds by itself: no one else's doing.
WAKING_MS = 0.02
WAITING_SHARE = 0.03
# Cores that others may keep busy; the kernel counts in ticks of 10 ms, so less cannot be told.
OTHERS = 0.15
# Beyond this many times what was asked for, a busy machine is taken as it is.
PATIENCE = 3
# Threads of a runtime spin for tens of milliseconds after their work (evaluation/latency.py).
PAUSE_S = 0.05


@dataclass(frozen=True)
class Timing:
    """Durations of one call over its repeats.

    Attributes:
        milliseconds: their median.
        spread: half the distance between their quartiles, in milliseconds.
        runs: how many count.
        disturbed: True where other processes used the cores in most runs.
        restart: milliseconds that the second run after a pause takes longer than a later one; 0.0
            where it is not told apart.
    """

    milliseconds: float
    spread: float
    runs: int
    disturbed: bool = False
    restart: float = 0.0


@dataclass
class Durations:
    """Of the runs of one call, in milliseconds: those that had the machine, and the others."""

    calm: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    def timing(self) -> Timing:
        """Of the calm runs; of the quicker half of all, where those are too few."""
        disturbed = len(self.calm) < min(LEAST_RUNS, len(self.disturbed))
        counted = self.calm
        if disturbed:
            everything = sorted(self.calm + self.disturbed)
            counted = everything[: max(1, len(everything) // 2)]
        low, middle, high = np.percentile(counted, [25, 50, 75])
        return Timing(float(middle), float(high - low) / 2, len(counted), disturbed)


def time_call(call: Callable[[], object], *, bursts: int = 3) -> Timing:
    """Time a call as `time_in_turns` would, in a fraction of the time where it is short.

    Each burst is a pause, as long as a network of usual size runs uncounted, and as long counted:
    after a pause cores are slower for a while. What that adds to the second run, the one that
    `time_in_turns` counts, is told apart: a short call has it as a long one does.
    """
    for _ in range(WARMUP_RUNS):
        call()
    durations, seconds = Durations(), Durations()
    for _ in range(PATIENCE):
        load = Load()
        runs: list[tuple[float, float]] = []
        second: list[tuple[float, float]] = []
        for _ in range(bursts):
            time.sleep(PAUSE_S)
            warming = _run_for(BURST_S, call)
            counted = _run_for(BURST_S, call)
            second.append([*warming, *counted][1])
            runs += counted
        quiet = load.others() <= OTHERS
        _keep(durations, runs, quiet=quiet)
        _keep(seconds, second, quiet=quiet)
        if len(durations.calm) >= bursts:
            break
    timing = durations.timing()
    return replace(timing, restart=seconds.timing().milliseconds - timing.milliseconds)


def _run_for(seconds: float, call: Callable[[], object]) -> list[tuple[float, float]]:
    runs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while not runs or time.perf_counter() < end:
        runs.append(_run(call))
    return runs


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float | None = None
) -> dict[str, Timing]:
    """Run `calls` in turns, one counted run each a round, as `flyweight bench` does.

    Args:
        rounds: undisturbed ones wanted.
        seconds: after which there are no more rounds; twice what the rounds need by default.
    """
    for call in calls.values():
        for _ in range(WARMUP_RUNS):
            call()
    durations = {name: Durations() for name in calls}
    start, done, calm = time.perf_counter(), 0, 0
    while calm < rounds:
        elapsed = time.perf_counter() - start
        if elapsed > (seconds or 2 * rounds * elapsed / max(done, 1)) or done == 2 * rounds:
            break
        load, runs = Load(), {}
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            call()
            runs[name] = _run(call)
        quiet = load.others() <= OTHERS
        done, calm = done + 1, calm + quiet
        for name, run in runs.items():
            _keep(durations[name], [run], quiet=quiet)
    return {name: each.timing() for name, each in durations.items()}


def _run(call: Callable[[], object]) -> tuple[float, float]:
    """Duration of one call and how long its threads waited for a core meanwhile, milliseconds."""
    waited = _own_times()[1]
    start = time.perf_counter_ns()
    call()
    duration = (time.perf_counter_ns() - start) / 1e6
    return duration, 1e3 * (_own_times()[1] - waited)


def _keep(durations: Durations, runs: list[tuple[float, float]], *, quiet: bool) -> None:
    for duration, waited in runs:
        calm = quiet and waited <= WAKING_MS + WAITING_SHARE * duration
        (durations.calm if calm else durations.disturbed).append(duration)


class Load:
    """Counts the cores that other processes keep busy, from its making on."""

    def __init__(self) -> None:
        self._start = self._clocks()

    def others(self) -> float:
        """In cores; 0.0 where the system does not say (any but Linux)."""
        wall, busy, own = (
            now - then for now, then in zip(self._clocks(), self._start, strict=True)
        )
        return max(0.0, busy - own) / wall

    @staticmethod
    def _clocks() -> tuple[float, float, float]:
        """Seconds of the wall, of all cores at work, and of this process's threads."""
        try:
            columns = (PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        except OSError:
            return time.perf_counter(), 0.0, 0.0
        busy = sum(int(columns[index]) for index in BUSY_COLUMNS) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, _own_times()[0]


def _own_times() -> tuple[float, float]:
    """Seconds in which this process's threads ran, and in which they were ready but had no core.

    From the kernel's schedstat, which counts nanoseconds; zeros where there is none.
    """
    ran = waited = 0
    for task in (PROC / "self" / "task").glob("*/schedstat"):
        try:
            fields = task.read_text(encoding="ascii").split()
        except OSError:  # the thread has ended
            continue
        ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran / 1e9, waited / 1e9
