from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from flyweight.compression.quantise_onnx import calibrate, quantise_onnx
from flyweight.compression.sensitivity import OutputErrors, decibels, find_sensitive


def scores_of(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["scores"], {"images": image})[0])


def with_outlier(graph: onnx.ModelProto) -> onnx.ModelProto:
    """One huge output of "expand" that the next layers ignore takes the range from the others."""
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    bias = numpy_helper.to_array(tensors["expand_b"]).copy()
    bias[5] = 2000.0
    tensors["expand_b"].CopyFrom(numpy_helper.from_array(bias, "expand_b"))
    for name in ("deltas_w", "logits_w"):
        weight = numpy_helper.to_array(tensors[name]).copy()
        weight[:, 5] = 0
        tensors[name].CopyFrom(numpy_helper.from_array(weight, name))
    return graph


def test_the_convolution_with_an_outlier_is_the_most_sensitive(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    with_outlier(graph)
    ranges = calibrate(graph, batches)
    ranked = find_sensitive(graph, ranges, batches[:1])
    assert len(ranked) == 5
    # "expand" writes the range, the two heads read it.
    assert {each.node for each in ranked[:3]} == {"expand", "deltas", "logits"}
    assert ranked[2].total > 5 * ranked[3].total

    def score_error(model: onnx.ModelProto) -> float:
        found = scores_of(model, batches[0][:1])
        return float(np.abs(found - scores_of(graph, batches[0][:1])).max())

    kept = [each.node for each in ranked[:3]]
    assert score_error(quantise_onnx(graph, ranges, keep_float=kept)) < 0.3 * score_error(
        quantise_onnx(graph, ranges)
    )


def test_decibels() -> None:
    """A tenth of the amplitude is 20 dB; a bit is 6.02 (Oppenheim & Schafer, section 4.8.2)."""
    assert decibels(1.0, 0.01) == pytest.approx(20)
    assert decibels(1.0, 0.25**2) - decibels(1.0, 0.5**2) == pytest.approx(6.02, abs=0.01)
    assert decibels(1.0, 0.0) == pytest.approx(120)


def test_a_graph_that_says_the_same_has_no_error(
    graph: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    same = OutputErrors(graph, batches[:1]).of(graph, "itself")
    assert (same.score_error, same.box_error) == (0, 0)
