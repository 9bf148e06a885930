"""Layer times of an .onnx file in ONNX Runtime, from the JSON that its profiler writes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from flyweight.core.errors import InputError
from flyweight.profiling.layer_times import (
    GraphNode,
    LayerTimes,
    fill_layers,
    median_layers,
    name_layers,
)
from flyweight.profiling.probe_runs import sample_input
from flyweight.profiling.stopwatch import WARMUP_RUNS, time_in_turns
from flyweight.runtime.onnxruntime_session import session_options
from flyweight.runtime.session import cannot_open, check_exists, checked_threads

KERNEL_SUFFIX = "_kernel_time"
RUN = "model_run"
# What the optimiser adds to the names of nodes that it rewrites.
REWRITTEN = ("_nchwc", "_nhwc")

Row = tuple[str, str, float]


def time_layers(path: Path, *, threads: int | None = None, repeats: int = 15) -> LayerTimes:
    """Run the file with and without the profiler in turns.

    Raises:
        InputError: the file is missing or no ONNX model.
    """
    check_exists(path)
    threads = checked_threads(threads)
    try:
        layers = _layers_of(onnx.load(path))
        plain = onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=["CPUExecutionProvider"]
        )
        with tempfile.TemporaryDirectory(prefix="flyweight-profile-") as folder:
            options = session_options(threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            watched = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            [taken] = plain.get_inputs()
            feed = {taken.name: sample_input(tuple(taken.shape), taken.type == "tensor(uint8)")}
            timings = time_in_turns(
                {
                    "plain": lambda: plain.run(None, feed),
                    "watched": lambda: watched.run(None, feed),
                },
                rounds=repeats,
            )
            runs = parse_profile(Path(watched.end_profiling()), layers)
    # Both libraries raise classes of their own for every kind of damage, all of them Exceptions.
    except InputError:
        raise
    except Exception as error:
        raise cannot_open(path, "ONNX") from error
    # a run that does not count goes before each that does
    counted = runs[WARMUP_RUNS:][1::2]
    return LayerTimes(
        "onnxruntime", threads, median_layers(counted), timings["plain"], timings["watched"]
    )


def parse_profile(path: Path, layers: dict[str, str]) -> list[list[Row]]:
    """Of each run in a profile its `(layer, operator, milliseconds)` in order.

    Args:
        path: of the JSON that ONNX Runtime's profiler wrote: a list of events, durations in
            microseconds, each run's nodes before the event of the run.
        layers: by names of nodes and values in the file that ran.

    Raises:
        InputError: the file is no profile.
    """
    try:
        events: Sequence[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        runs: list[list[Row]] = []
        rows: list[Row] = []
        for event in events:
            if event["name"] == RUN:
                runs.append(fill_layers(rows))
                rows = []
            elif event["cat"] == "Node" and event["name"].endswith(KERNEL_SUFFIX):
                layer = _find(event["name"].removesuffix(KERNEL_SUFFIX), layers)
                rows.append((layer, event["args"]["op_name"], event["dur"] / 1e3))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the file is no profile of ONNX Runtime", where=path) from error
    return runs


def _find(name: str, layers: dict[str, str]) -> str:
    name = name.partition("/")[0]
    for suffix in REWRITTEN:
        name = name.removesuffix(suffix)
    return layers.get(name, "")


def _layers_of(model: onnx.ModelProto) -> dict[str, str]:
    nodes = [
        GraphNode(node.name, tuple(node.input), tuple(node.output)) for node in model.graph.node
    ]
    return name_layers(nodes, {each.name: each.name for each in model.graph.initializer})
