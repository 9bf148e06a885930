"""Every kind of probe is a network that the runtimes run, with the shapes of its draft."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.probe_onnx import to_onnx
from flyweight.profiling.probe_runs import RUNTIMES, open_probe
from flyweight.profiling.probes import BLOCKS, Probe, draft, grid

# the smallest probe of each kind
SMALLEST: dict[str, Probe] = {}
for each in sorted(grid(), key=lambda probe: draft(probe).macs):
    SMALLEST.setdefault(str(each[0]), each)


def test_every_kind_is_in_the_grid_and_none_twice() -> None:
    assert SMALLEST.keys() == BLOCKS.keys()
    assert len(set(grid())) == len(grid())


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_onnx_graph_has_the_drafted_shapes(kind: str) -> None:
    cost = draft(SMALLEST[kind])
    model = onnx.load_from_string(to_onnx(cost))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
    }
    convolutions = [node.output[0] for node in inferred.node if node.op_type == "Conv"]
    drafted = [each.output_shape for each in cost.operations if each.kind == "conv2d"]
    assert [shapes[name] for name in convolutions] == drafted
    weights = {each.name: onnx.numpy_helper.to_array(each).size for each in inferred.initializer}
    read = [name for node in inferred.node if node.op_type == "Conv" for name in node.input]
    params = sum(each.params for each in cost.operations if each.kind == "conv2d")
    assert sum(weights.get(name, 0) for name in read) == params


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", BLOCKS)
def test_every_runtime_runs_it(kind: str, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    before = torch.get_num_threads()
    try:
        assert open_probe(draft(SMALLEST[kind]), runtime=runtime, threads=1)() is not None
    finally:
        torch.set_num_threads(before)


def test_rows_are_decoded_to_boxes_and_scores() -> None:
    run = open_probe(draft(("head", 8, 6, 5)), runtime="onnxruntime", threads=1)
    boxes, scores = run()  # type: ignore[misc]
    anchors = 6 * (6**2 + 3**2 + 2**2)
    assert boxes.shape == (1, anchors, 4)
    assert scores.shape == (1, anchors, 5)
    assert scores.sum(-1) == pytest.approx(np.ones((1, anchors)), abs=1e-5)


def test_pictures_are_taken_as_bytes() -> None:
    [taken] = onnx.load_from_string(to_onnx(draft(("stem", 8, 32, 3)))).graph.input
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [side.dim_value for side in taken.type.tensor_type.shape.dim] == [1, 32, 32, 3]


def test_unknown_runtimes_and_operators_are_refused() -> None:
    with pytest.raises(InputError, match="abacus"):
        open_probe(draft(SMALLEST["dense"]), runtime="abacus", threads=1)
    made = Draft((1, 8, 4, 4))
    made.add("magic", [INPUT])
    with pytest.raises(ValueError, match="magic"):
        to_onnx(made.cost("magic"))
