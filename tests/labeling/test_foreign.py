"""Others' published networks, on real pictures and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flyweight.core.errors import InputError
from flyweight.core.manifest import METADATA_KEY
from flyweight.data.class_names import COCO
from flyweight.data.formats import open_dataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.labeling.foreign import open_foreign
from flyweight.labeling.foreign_picodet import _decode_level, is_picodet
from flyweight.labeling.foreign_yolox import grid_corners, is_yolox

PEERS = ("yolox_nano_416_coco", "picodet_s_320_coco")


@pytest.mark.parametrize("name", PEERS)
def test_average_precision_is_about_the_published_one(
    name: str, shared_dir: Path, tiny_coco_dir: Path
) -> None:
    """25.8 and 27.1 on all of COCO; a wrong mean, order of channels or half a cell costs much."""
    path = shared_dir / "peers" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{name} is not there")
    teacher = open_foreign(path, threads=1)
    assert teacher is not None
    assert teacher.class_names == tuple(COCO)
    predictor: Any = teacher  # evaluation asks for no more than a teacher has
    measured = evaluate(predictor, open_dataset(tiny_coco_dir, "val"))
    assert measured.AP is not None
    assert measured.AP > 0.31


def test_a_cell_of_yolox() -> None:
    corners, strides = grid_corners((64, 96))
    assert len(corners) == 8 * 12 + 4 * 6 + 2 * 3
    np.testing.assert_array_equal(corners[13], [8, 8])
    np.testing.assert_array_equal(corners[96 + 7], [16, 16])
    np.testing.assert_array_equal(strides[[0, 95, 96, 120]], [[8], [8], [16], [32]])


def test_a_cell_of_picodet() -> None:
    """Certain distances: the cell (row 1, column 2) at stride 8 has its centre at (20, 12)."""
    logits = np.full((4 * 5, 4, 8), -50.0, np.float32)
    logits[1 * 5 + 2, np.arange(4), [0, 1, 2, 3]] = 50
    boxes = _decode_level(logits.reshape(20, 32), (32, 40), 8)
    np.testing.assert_allclose(boxes[7], [20, 12 - 8, 20 + 16, 12 + 24])
    # between two of equal weight it is half way
    logits[0, :, [4, 5]] = 50
    np.testing.assert_allclose(
        _decode_level(logits.reshape(20, 32), (32, 40), 8)[0], [-32, -32, 40, 40]
    )


def write_network(path: Path, shapes: list[list[int]], metadata: dict[str, str]) -> Path:
    outputs = [
        helper.make_tensor_value_info(f"out{number}", TensorProto.FLOAT, shape)
        for number, shape in enumerate(shapes)
    ]
    nodes = [
        helper.make_node(
            "ConstantOfShape",
            ["shape"] if not number else [f"shape{number}"],
            [f"out{number}"],
        )
        for number in range(len(shapes))
    ]
    constants = [
        helper.make_tensor(
            "shape" if not number else f"shape{number}", TensorProto.INT64, [len(shape)], shape
        )
        for number, shape in enumerate(shapes)
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph(nodes, "net", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_unknown_networks_are_refused(tmp_path: Path) -> None:
    three_a_cell = write_network(tmp_path / "a.onnx", [[1, 252, 85]], {})
    with pytest.raises(InputError, match=r"\(1, 252, 85\) are not understood"):
        open_foreign(three_a_cell)
    assert open_foreign(write_network(tmp_path / "b.onnx", [[1, 84, 85]], {})) is not None
    broken = tmp_path / "c.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(InputError, match="no ONNX model"):
        open_foreign(broken)
    with pytest.raises(InputError, match="does not exist"):
        open_foreign(tmp_path / "d.onnx")


def test_our_own_files_are_left_to_others(tmp_path: Path) -> None:
    assert open_foreign(Path("model.safetensors")) is None
    own = write_network(tmp_path / "own.onnx", [[1, 84, 85]], {METADATA_KEY: "{}"})
    assert open_foreign(own) is None


def test_what_tells_them_apart() -> None:
    assert is_yolox([1, 3, 416, 416], [(1, 3549, 85)])
    assert not is_yolox(["batch", 3, 416, 416], [(1, 3549, 85)])
    levels = (1600, 400, 100, 25)
    assert is_picodet([(1, n, 80) for n in levels] + [(1, n, 32) for n in levels])
    assert not is_picodet([(1, n, 80) for n in levels])
