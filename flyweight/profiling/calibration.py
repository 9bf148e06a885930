"""Calibrate: time the probes on this device once, and keep what was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from flyweight.core.errors import CheckError, InputError
from flyweight.evaluation.latency import describe_machine
from flyweight.profiling.device_model import DeviceModel, MeasuredProbe
from flyweight.profiling.probe_runs import RUNTIMES, open_probe
from flyweight.profiling.probes import Probe, draft, grid
from flyweight.profiling.stopwatch import Timing, time_call
from flyweight.runtime.session import checked_threads

Progress = Callable[[int, int], None]
# What is measured is kept at least this often, so that a break costs no more than this.
SAVE_EVERY_S = 10.0
# A device that is never quiet is measured as it is in the last of these rounds over the probes.
ROUNDS = 3
DRIFT_PROBES = 24


def calibrate(
    path: str | os.PathLike[str],
    *,
    runtime: str,
    threads: int | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
    probes: list[Probe] | None = None,
) -> DeviceModel:
    """Time all probes in `runtime`; go on where the file at `path` ends, if there is one.

    Args:
        path: of the calibration's JSON, written every few seconds.
        runtime: `torch`, `onnxruntime` or `openvino`.
        threads: of one inference; the available cores by default.
        seconds: after which to stop, whatever is left; a later call goes on. None goes on to the
            end, and takes what other processes disturbed three times as it is.
        progress: called with the number of probes that are measured, and of all.
        probes: what to time; `grid()` by default.

    Returns:
        The device, with all that was measured until now.

    Raises:
        InputError: the runtime is unknown, or the file is of another runtime, number of threads or
            machine.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}", fix=f"choose {', '.join(RUNTIMES)}")
    model = _begun(Path(path), runtime, checked_threads(threads))
    wanted = grid() if probes is None else probes
    end = time.monotonic() + (seconds if seconds is not None else float("inf"))
    saved = time.monotonic()
    for round_left in reversed(range(ROUNDS)):
        done = {each.probe for each in model.measured}
        for probe in (each for each in wanted if each not in done):
            if time.monotonic() > end:
                break
            timing = _time_probe(probe, model)
            if timing.disturbed and (round_left or seconds is not None):
                continue  # others used the machine: again in the next round, or the next call
            measured = MeasuredProbe(probe, timing.milliseconds, timing.spread, timing.restart)
            model = replace(model, measured=(*model.measured, measured))
            if progress is not None:
                progress(len(model.measured), len(wanted))
            if time.monotonic() - saved > SAVE_EVERY_S:
                model.save(path)
                saved = time.monotonic()
    model.save(path)
    return model


def measure_drift(model: DeviceModel, *, count: int = DRIFT_PROBES) -> float:
    """How much longer the device takes now than when it was calibrated: 1.0 is as long.

    A laptop that is hot, or a virtual machine with busy neighbours, is another device by some tens
    of percent. A few of the probes are timed again; the median of their ratios tells.

    Raises:
        CheckError: other processes used the machine all the time.
    """
    step = max(1, len(model.measured) // count)
    timings = [(each, _time_probe(each.probe, model)) for each in model.measured[::step]]
    ratios = [now.milliseconds / each.milliseconds for each, now in timings if not now.disturbed]
    if not ratios:
        raise CheckError("other processes used the machine all the time: its speed is not known")
    return median(ratios)


def _time_probe(probe: Probe, model: DeviceModel) -> Timing:
    run = open_probe(draft(probe), runtime=model.runtime, threads=model.threads)
    return time_call(run)


def _begun(path: Path, runtime: str, threads: int) -> DeviceModel:
    """The calibration at `path`, if it is of this device; else one without measurements."""
    machine = describe_machine()
    if not path.exists():
        return DeviceModel(runtime, threads, machine)
    model = DeviceModel.load(path)
    here = (runtime, threads, machine["processor"])
    there = (model.runtime, model.threads, model.machine.get("processor"))
    if here != there:
        raise InputError(
            f"the file is of {there[0]}, {there[1]} threads, {there[2]}",
            where=path,
            fix="give another file for this device, runtime and number of threads",
        )
    return model
