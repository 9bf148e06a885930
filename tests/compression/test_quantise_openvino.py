from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flyweight.compression.quantise_openvino import decoding_nodes, quantise_openvino
from flyweight.core.errors import InputError

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")


@pytest.fixture
def model(graph: onnx.ModelProto, tmp_path: Path) -> Any:
    onnx.save(graph, tmp_path / "small.onnx")
    return openvino.convert_model(str(tmp_path / "small.onnx"))


def outputs(model: Any, image: np.ndarray) -> list[np.ndarray]:
    found = openvino.compile_model(model, "CPU")(image)
    return [found["boxes"], found["scores"]]


def test_int8_says_nearly_the_same(
    model: Any, batches: list[np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    quantised = quantise_openvino(model, batches)
    assert capfd.readouterr() == ("", "")
    boxes, scores = outputs(model, batches[0][:1])
    found_boxes, found_scores = outputs(quantised, batches[0][:1])
    assert 0 < np.abs(found_scores - scores).max() < 0.1
    assert np.abs(found_boxes - boxes).max() < 0.1 * np.abs(boxes).max()


def test_decoding_stays_in_float(model: Any, batches: list[np.ndarray]) -> None:
    """No FakeQuantize comes after the last convolutions; every convolution has them before it."""
    after = decoding_nodes(model)
    # A node that makes an output takes the output's name.
    assert {"scores", "boxes", "decode_mul", "logits_t", "deltas_r"} <= set(after)
    assert not {"stem", "residual", "logits"} & set(after)
    quantised = quantise_openvino(model, batches)
    decoded = set(decoding_nodes(quantised))
    types = {op.get_friendly_name(): op.get_type_name() for op in quantised.get_ops()}
    assert not [name for name in decoded if types.get(name) == "FakeQuantize"]
    assert sum(kind == "FakeQuantize" for kind in types.values()) >= 5


def test_what_is_kept_stays_in_float(model: Any, batches: list[np.ndarray]) -> None:
    def quantised_weights(model: Any) -> int:
        return sum(
            op.get_element_type().to_string() in ("i8", "u8")
            for op in model.get_ops()
            if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) >= 4
        )

    every = quantised_weights(quantise_openvino(model, batches))
    fewer = quantised_weights(quantise_openvino(model, batches, keep_float=["logits", "stem"]))
    assert (every, fewer) == (5, 3)


def test_linear_layers_are_quantised(
    two_stage_graph: onnx.ModelProto, batches: list[np.ndarray], tmp_path: Path
) -> None:
    onnx.save(two_stage_graph, tmp_path / "two.onnx")
    model = openvino.convert_model(str(tmp_path / "two.onnx"))

    def int8_matrices(model: Any) -> int:
        return sum(
            op.get_element_type().to_string() in ("i8", "u8")
            for op in model.get_ops()
            if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) == 2
        )

    quantised = quantise_openvino(model, batches)
    assert int8_matrices(quantised) == 2
    assert int8_matrices(quantise_openvino(model, batches, keep_float=["fc6"])) == 1
    _, scores = outputs(model, batches[0][:1])
    _, found = outputs(quantised, batches[0][:1])
    assert 0 < np.abs(found - scores).max() < 0.1


def test_no_pictures(model: Any) -> None:
    with pytest.raises(InputError, match="no pictures"):
        quantise_openvino(model, [])
