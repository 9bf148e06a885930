"""ONNX graphs that are no drafted network as it is: quantised, or opened in another way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from flyweight.compression.quantise_onnx import calibrate, quantise_onnx
from flyweight.profiling.probe_runs import sample_input
from flyweight.runtime.onnxruntime_session import session_options
from flyweight.runtime.openvino_session import compile_settings
from questions.timing import Call

CALIBRATION_PICTURES = 4


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The int8 form of a drafted network that takes pictures, calibrated on noise.

    Its numbers are worth nothing, its time is that of any network of its shape.
    """
    [taken] = model.graph.input
    for node in model.graph.node:
        node.input[:] = ["images" if name == taken.name else name for name in node.input]
    taken.name = "images"
    shape = tuple(each.dim_value for each in taken.type.tensor_type.shape.dim)
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (CALIBRATION_PICTURES, *shape[1:]), dtype=np.uint8)
    return quantise_onnx(model, calibrate(model, [noise]))


def open_graph(content: bytes, *, runtime: str, threads: int, without: Sequence[str] = ()) -> Call:
    """One run of a graph, with the settings of `flyweight.runtime`'s sessions.

    Args:
        content: of the file.
        without: optimisations that ONNX Runtime is to leave out, by its names.
    """
    if runtime == "openvino":
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(content), "CPU", compile_settings(threads))
        request = compiled.create_infer_request()
        sample = sample_input(
            tuple(compiled.inputs[0].shape),
            compiled.inputs[0].get_element_type() == openvino.Type.u8,
        )
        return lambda: request.infer({0: sample}, share_inputs=True, share_outputs=True)
    import onnxruntime

    session = onnxruntime.InferenceSession(
        content,
        session_options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(without),
    )
    [taken] = session.get_inputs()
    feed = {taken.name: sample_input(tuple(taken.shape), taken.type == "tensor(uint8)")}
    return lambda: session.run(None, feed)
