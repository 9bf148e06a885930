from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from flyweight.compression.quantise_onnx import (
    calibrate,
    quantise_onnx,
    quantised_nodes,
)
from flyweight.core.errors import InputError


def run(model: onnx.ModelProto, image: np.ndarray, *names: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(list(names) or ["boxes", "scores"], {"images": image})


def is_int8(model: onnx.ModelProto, conv: str) -> bool:
    """Whether the weights of `conv` come through a DequantizeLinear."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    node = next(node for node in model.graph.node if node.name == conv)
    return makers.get(node.input[1]) == "DequantizeLinear"


def test_int8_says_nearly_the_same(graph: onnx.ModelProto, batches: list[np.ndarray]) -> None:
    original = graph.SerializeToString()
    quantised = quantise_onnx(graph, calibrate(graph, batches))
    onnx.checker.check_model(quantised)
    assert graph.SerializeToString() == original
    assert quantised.metadata_props[0].value == "kept"
    boxes, scores = run(graph, batches[0][:1])
    found_boxes, found_scores = run(quantised, batches[0][:1])
    assert 0 < np.abs(found_scores - scores).mean() < 0.03
    assert np.abs(found_boxes - boxes).mean() < 0.03 * np.abs(boxes).max()


def test_only_the_network_is_quantised(graph: onnx.ModelProto) -> None:
    """Neither the normalisation before the first convolution, nor the decoding after the last."""
    assert quantised_nodes(graph) == [
        "stem",
        "stem_act",
        "depthwise",
        "depthwise_act",
        "expand",
        "residual",
        "deltas",
        "logits",
    ]


def test_linear_layers_are_quantised_and_nothing_that_leads_to_them(
    two_stage_graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    """Before the linear layers of a box head proposals are decoded, in pixels."""
    model = two_stage_graph
    assert quantised_nodes(model)[-4:] == ["deltas", "fc6", "fc6_act", "fc7"]
    ranges = calibrate(model, batches)
    quantised = quantise_onnx(model, ranges)
    assert is_int8(quantised, "fc6")
    assert is_int8(quantised, "fc7")
    boxes, scores = run(model, batches[0][:1])
    found_boxes, found_scores = run(quantised, batches[0][:1])
    assert 0 < np.abs(found_scores - scores).mean() < 0.03
    assert np.abs(found_boxes - boxes).mean() < 0.03 * np.abs(boxes).max()
    assert not is_int8(quantise_onnx(model, ranges, keep_float=["fc6"]), "fc6")
    # Training for int8 leaves ranges of convolutions only.
    known = {name: each for name, each in ranges.items() if not name.startswith("fc")}
    untrained = quantise_onnx(model, known)
    assert is_int8(untrained, "stem")
    assert not is_int8(untrained, "fc6")


def test_weights_have_seven_bits_a_channel(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    """So that two products with uint8 fit in 16 bits: 2 * 255 * 64 < 32768."""
    quantised = quantise_onnx(graph, calibrate(graph, batches))
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in quantised.graph.initializer
        if tensor.name.endswith("_w_quantized")
    }
    assert len(weights) == 5
    for name, values in weights.items():
        assert values.dtype == np.int8, name
        # Each channel uses its own full range.
        assert (np.abs(values.astype(int)).reshape(len(values), -1).max(axis=1) >= 63).all(), name
        assert np.abs(values.astype(int)).max() <= 64, name


def test_calibration_is_the_mean_of_the_extremes(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    ranges = calibrate(graph, batches)
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.add(name="block")
    values = [run(watched, image[None], "block")[0] for batch in batches for image in batch]
    expected = (np.mean([each.min() for each in values]), np.mean([each.max() for each in values]))
    np.testing.assert_allclose(ranges["block"], expected, rtol=1e-6)
    with pytest.raises(InputError, match="no pictures"):
        calibrate(graph, [])


def test_what_is_kept_stays_in_float(graph: onnx.ModelProto, batches: list[np.ndarray]) -> None:
    quantised = quantise_onnx(graph, calibrate(graph, batches), keep_float=["logits", "stem"])
    states = {name: is_int8(quantised, name) for name in ("stem", "depthwise", "logits", "deltas")}
    assert states == {"stem": False, "depthwise": True, "logits": False, "deltas": True}


def test_with_all_in_float_nothing_is_quantised(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    every = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    assert quantise_onnx(graph, calibrate(graph, batches), keep_float=every) == graph


def test_it_is_silent(
    graph: onnx.ModelProto, batches: list[np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    quantise_onnx(graph, calibrate(graph, batches))
    assert capfd.readouterr() == ("", "")
