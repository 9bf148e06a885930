"""A drafted network in a runtime, ready to be run and timed as exported files are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.profiling.operation import NetworkCost

RUNTIMES = ("torch", "onnxruntime", "openvino")


def open_probe(cost: NetworkCost, *, runtime: str, threads: int) -> Callable[[], object]:
    """One pass of `cost` in `runtime`, with the settings of `flyweight.runtime`'s sessions."""
    if runtime == "onnxruntime":
        return _open_onnxruntime(cost, threads)
    if runtime == "openvino":
        return _open_openvino(cost, threads)
    if runtime == "torch":
        from flyweight.profiling.probe_torch import open_torch

        return open_torch(cost, threads=threads)
    raise InputError(f"unknown runtime {runtime!r}", fix=f"choose {', '.join(RUNTIMES)}")


def _open_onnxruntime(cost: NetworkCost, threads: int) -> Callable[[], object]:
    import onnxruntime

    from flyweight.profiling.probe_onnx import to_onnx
    from flyweight.runtime.onnxruntime_session import session_options

    session = onnxruntime.InferenceSession(
        to_onnx(cost), session_options(threads), providers=["CPUExecutionProvider"]
    )
    [taken] = session.get_inputs()
    feed = {taken.name: sample_input(tuple(taken.shape), taken.type == "tensor(uint8)")}
    return lambda: session.run(None, feed)


def _open_openvino(cost: NetworkCost, threads: int) -> Callable[[], object]:
    # first what says in plain words that OpenVINO is missing
    from flyweight.runtime.openvino_session import compile_settings  # isort: skip

    import openvino

    from flyweight.profiling.probe_onnx import to_onnx

    core = openvino.Core()
    model = core.read_model(to_onnx(cost))
    compiled = core.compile_model(model, "CPU", compile_settings(threads))
    request = compiled.create_infer_request()
    shape = tuple(compiled.inputs[0].shape)
    sample = sample_input(shape, compiled.inputs[0].get_element_type() == openvino.Type.u8)
    return lambda: request.infer({0: sample}, share_inputs=True, share_outputs=True)


def sample_input(shape: tuple[int, ...], picture: bool) -> npt.NDArray[Any]:
    """A picture of noise, uint8, or normally distributed float32."""
    random = np.random.default_rng(0)
    if picture:
        return random.integers(0, 256, shape, dtype=np.uint8)
    return random.standard_normal(shape, dtype=np.float32)
