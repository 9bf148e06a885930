from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from flyweight.compression.quantise_onnx import calibrate, quantise_onnx
from flyweight.compression.tensor_noise import (
    activation_noise,
    rounded_weights,
    weight_noise,
    with_rounded,
)


def scores_of(model: onnx.ModelProto, image: np.ndarray, *names: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(list(names) or ["scores"], {"images": image})


def set_constant(graph: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def constant(graph: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = (each for each in graph.graph.initializer if each.name == name)
    return numpy_helper.to_array(tensor).copy()


def test_weights_are_rounded_as_onnx_runtime_does(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    quantised = quantise_onnx(graph, calibrate(graph, batches))
    tensors = {each.name: numpy_helper.to_array(each) for each in quantised.graph.initializer}
    scales = tensors["logits_w_scale"].reshape(-1, 1, 1, 1)
    expected = tensors["logits_w_quantized"].astype(np.float64) * scales
    found = rounded_weights(constant(graph, "logits_w").astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_activation_is_rounded_as_onnx_runtime_does(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    """Its noise is that of the tensor behind QuantizeLinear and DequantizeLinear."""
    ranges = calibrate(graph, batches)
    image = batches[0][:1]
    rounded = with_rounded(graph, ranges, "block")
    onnx.checker.check_model(rounded)
    watched = onnx.ModelProto()
    watched.CopyFrom(rounded)
    for name in ("block", "rounded/long"):
        watched.graph.output.add(name=name)
    before, after = scores_of(watched, image, "block", "rounded/long")
    expected = 10 * np.log10(np.square(before).sum() / np.square(after - before).sum())
    noise = activation_noise(graph, ranges, [image], ["block"])["block"]
    assert noise.sqnr_db == pytest.approx(expected, abs=0.01)
    assert (noise.low, noise.high) == ranges["block"]
    assert np.abs(scores_of(rounded, image)[0] - scores_of(graph, image)[0]).max() > 0


def test_a_full_uniform_range_keeps_its_eight_bits(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    """6.02 dB a bit of a uniform signal (Oppenheim & Schafer, section 4.8.2); 7 of weights."""
    rng = np.random.default_rng(0)
    set_constant(graph, "expand_w", rng.uniform(-1, 1, (512, 8, 8, 8)))
    noise = weight_noise(graph, ["expand_w"])["expand_w"]
    assert noise.sqnr_db == pytest.approx(7 * 6.02, abs=0.3)
    assert noise.causes == ()


def test_the_outlier_channel_is_named(graph: onnx.ModelProto, batches: list[np.ndarray]) -> None:
    weights, bias = constant(graph, "expand_w"), constant(graph, "expand_b")
    ranges = calibrate(graph, batches)
    healthy = activation_noise(graph, ranges, batches[:1], ["expand"])["expand"]
    weights[5] *= 200
    set_constant(graph, "expand_w", weights)
    set_constant(graph, "expand_b", bias)
    ranges = calibrate(graph, batches)
    sick = activation_noise(graph, ranges, batches[:1], ["expand"])["expand"]
    assert not any("channel" in cause for cause in healthy.causes)
    assert any(cause.startswith("channel 5 spans") for cause in sick.causes)


def test_a_range_that_cuts_is_named(graph: onnx.ModelProto, batches: list[np.ndarray]) -> None:
    ranges = calibrate(graph, batches)
    low, high = ranges["expand"]
    narrow = ranges | {"expand": (low / 10, high / 10)}
    found = activation_noise(graph, narrow, batches[:1], ["expand"])["expand"]
    assert any("outside the calibrated range" in cause for cause in found.causes)


def test_one_large_weight_is_named(graph: onnx.ModelProto) -> None:
    weights = np.full((4, 8, 5, 5), 0.01)
    weights[:, 0, 0, 0] = 1
    set_constant(graph, "expand_w", weights)
    (cause,) = weight_noise(graph, ["expand_w"])["expand_w"].causes
    assert "one weight of a channel" in cause


def test_the_widest_channel_of_a_linear_layer_is_named(
    two_stage_graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    """Its activations have channels last: `[R, C]`."""
    weight = constant(two_stage_graph, "fc6_w")
    weight[11] *= 100
    set_constant(two_stage_graph, "fc6_w", weight)
    ranges = calibrate(two_stage_graph, batches)
    found = activation_noise(two_stage_graph, ranges, batches[:1], ["fc6"])
    assert any(cause.startswith("channel 11 spans") for cause in found["fc6"].causes)
