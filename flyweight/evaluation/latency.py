"""How long things take, measured side by side."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

WARMUP_RUNS = 5
# Threads of a runtime spin for tens of milliseconds after their work, on the cores of whichever
# comes next: without a pause a round doubled the times of ONNX Runtime and OpenVINO.
PAUSE_S = 0.05
VERSIONS_OF = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "torch", "torchvision")


def median_milliseconds(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Median duration of each call, in milliseconds, by name.

    The calls take turns, one measured run each a round, so that a machine that slows down or that
    others use for a while is equally slow for all of them. A pause and a run that is not counted
    go before it, so that no call pays for the threads and the caches of the one before.
    """
    for call in calls.values():
        for _ in range(WARMUP_RUNS):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(1, repeats + 1):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            call()
            start = time.perf_counter_ns()
            call()
            times[name].append((time.perf_counter_ns() - start) / 1e6)
        if progress is not None:
            progress(done, repeats)
    return {name: median(values) for name, values in times.items()}


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, system, versions."""
    return {
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version for name in VERSIONS_OF if (version := _version(name))},
    }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
