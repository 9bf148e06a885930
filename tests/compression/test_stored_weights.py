from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from flyweight.compression.stored_weights import STORED, store_weights


def session_of(model: onnx.ModelProto, optimised: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimised
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("form", STORED)
def test_smaller_and_nearly_the_same(
    graph: onnx.ModelProto, batches: list[np.ndarray], form: str
) -> None:
    original = graph.SerializeToString()
    stored = store_weights(graph, form)
    onnx.checker.check_model(stored)
    assert graph.SerializeToString() == original
    assert stored.metadata_props[0].value == "kept"
    bits = {
        each.name: each.data_type
        for each in stored.graph.initializer
        if each.name.endswith("/stored")
    }
    kind = {"fp16": "FLOAT16", "bf16": "BFLOAT16", "int8-weights": "INT8"}[form]
    assert set(bits.values()) == {TensorProto.DataType.Value(kind)}
    assert len(bits) == 5
    feed = {"images": batches[0][:1]}
    (expected,), (found,) = (session_of(model).run(["scores"], feed) for model in (graph, stored))
    assert 0 < np.abs(found - expected).max() < 0.02


def test_what_is_kept_stays_as_it_is(graph: onnx.ModelProto) -> None:
    stored = store_weights(graph, "int8-weights", keep_float=["logits", "stem"])
    names = {each.name for each in stored.graph.initializer}
    assert {name for name in names if name.endswith("/stored")} == {
        f"{layer}_w/stored" for layer in ("depthwise", "expand", "deltas")
    }
    assert {"logits_w", "stem_w"} <= names


@pytest.mark.parametrize("form", STORED)
def test_the_runtime_turns_them_back_once(
    graph: onnx.ModelProto, form: str, tmp_path: object
) -> None:
    """In the graph that ONNX Runtime makes for itself the weights are constants in float."""
    path = f"{tmp_path}/optimised.onnx"
    session_of(store_weights(graph, form), path)
    optimised = onnx.load(path).graph
    constants = {each.name: each.data_type for each in optimised.initializer}
    convolutions = [node for node in optimised.node if "Conv" in node.op_type]
    assert len(convolutions) == 5
    assert {constants[node.input[1]] for node in convolutions} == {TensorProto.FLOAT}


def test_values_are_those_of_torch(graph: onnx.ModelProto) -> None:
    weights = {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy())
        for each in graph.graph.initializer
    }["expand_w"]
    for form, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        (tensor,) = (
            each
            for each in store_weights(graph, form).graph.initializer
            if each.name == "expand_w/stored"
        )
        found = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        torch.testing.assert_close(found, weights.to(dtype).float(), rtol=0, atol=0)
    stored = store_weights(graph, "int8-weights").graph.initializer
    tensors = {each.name: numpy_helper.to_array(each) for each in stored}
    scales = torch.from_numpy(tensors["expand_w/scale"].copy()).flatten()
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weights, scales, zeros, 0, -127, 127)
    integers = tensors["expand_w/stored"]
    found = integers * tensors["expand_w/scale"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    assert np.abs(integers.astype(int)).reshape(8, -1).max(axis=1).tolist() == [127] * 8


@pytest.mark.parametrize("form", STORED)
@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(6, 4, 3),
        nn.ConvTranspose2d(6, 4, 3, groups=2),
        nn.Linear(6, 4),
    ],
    ids=["transposed", "transposed in groups", "linear"],
)
def test_other_layers(layer: nn.Module, form: str) -> None:
    """Scales lie along the right axis: a channel of small weights keeps its own steps."""
    assert isinstance(layer.weight, nn.Parameter)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=tuple(layer.weight.shape)).astype(np.float32)
    groups = getattr(layer, "groups", 0)
    shape = [1, 6, 5, 5] if groups else [2, 6]
    if groups == 1:
        weight[:, 0] *= 1e-3
    elif not groups:
        weight[0] *= 1e-3
    node = (
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], "layer", group=groups)
        if groups
        else helper.make_node("Gemm", ["x", "w"], ["y"], "layer", transB=1)
    )
    made = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = rng.normal(size=shape).astype(np.float32)
    (expected,) = session_of(model).run(None, {"x": x})
    (found,) = session_of(store_weights(model, form)).run(None, {"x": x})
    channels = expected.reshape(*expected.shape[:2], -1)
    errors = np.abs(found.reshape(channels.shape) - channels).max(axis=(0, 2))
    assert (errors <= 0.02 * np.abs(channels).max(axis=(0, 2))).all()
    assert errors.max() > 0
