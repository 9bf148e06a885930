"""Layer times of an exported file in OpenVINO, from its performance counters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.profiling.layer_times import (
    GraphNode,
    LayerTimes,
    fill_layers,
    median_layers,
    name_layers,
)
from flyweight.profiling.probe_runs import sample_input
from flyweight.profiling.stopwatch import PAUSE_S, time_in_turns
from flyweight.runtime.session import cannot_open, check_exists, checked_threads

try:
    import openvino

    from flyweight.runtime.openvino_session import compile_settings
except ImportError as error:
    raise InputError("OpenVINO is not installed", fix="pip install openvino") from error

Row = tuple[str, str, float]


def time_layers(path: Path, *, threads: int | None = None, repeats: int = 15) -> LayerTimes:
    """Run the .onnx or .xml file with and without counters in turns.

    Raises:
        InputError: the file is missing or no model.
    """
    check_exists(path)
    threads = checked_threads(threads)
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        layers = _layers_of(model)
        settings = compile_settings(threads)
        plain = core.compile_model(model, "CPU", settings).create_infer_request()
        watched = core.compile_model(
            model, "CPU", settings | {"PERF_COUNT": True}
        ).create_infer_request()
    except RuntimeError as error:
        raise cannot_open(path, "OpenVINO" if path.suffix == ".xml" else "ONNX") from error
    [taken] = model.inputs
    picture = taken.get_element_type() == openvino.Type.u8
    feed = {0: sample_input(tuple(taken.shape), picture)}
    timings = time_in_turns(
        {
            "plain": lambda: plain.infer(feed, share_inputs=True, share_outputs=True),
            "watched": lambda: watched.infer(feed, share_inputs=True, share_outputs=True),
        },
        rounds=repeats,
    )
    runs = []
    for _ in range(repeats):
        time.sleep(PAUSE_S)
        watched.infer(feed, share_inputs=True, share_outputs=True)
        watched.infer(feed, share_inputs=True, share_outputs=True)
        runs.append(read_counters(watched, layers))
    return LayerTimes(
        "openvino", threads, median_layers(runs), timings["plain"], timings["watched"]
    )


def read_counters(request: Any, layers: dict[str, str]) -> list[Row]:
    """`(layer, operator, milliseconds)` of what the last run executed, in order.

    Nodes that were fused or done at compile time are there too, as not run; they are left out.
    """
    return fill_layers(
        (
            layers.get(each.node_name, ""),
            f"{each.node_type} {each.exec_type}",
            1e3 * each.real_time.total_seconds(),
        )
        for each in request.get_profiling_info()
        if each.status == openvino.ProfilingInfo.Status.EXECUTED
    )


def _layers_of(model: Any) -> dict[str, str]:
    nodes, constants = [], {}
    for operation in model.get_ordered_ops():
        name = operation.get_friendly_name()
        if operation.get_type_name() == "Constant":
            constants[name] = name
            continue
        sources = (
            operation.input_value(index).get_node() for index in range(operation.get_input_size())
        )
        read = tuple(source.get_friendly_name() for source in sources)
        nodes.append(GraphNode(name, read, (name,)))
    return name_layers(nodes, constants)
