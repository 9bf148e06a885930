from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from flyweight.compression.onnx_layers import companions, layers_of, module_name
from flyweight.compression.quantise_onnx import quantised_nodes
from flyweight.export.onnx import to_onnx
from flyweight.models.detectors import Detector
from flyweight.profiling.trace import trace_detector


def test_layers_of_the_small_graph(graph: onnx.ModelProto) -> None:
    layers = {layer.node: layer for layer in layers_of(graph)}
    assert list(layers) == ["stem", "depthwise", "expand", "deltas", "logits"]
    assert [layer.stride for layer in layers.values()] == [2, 4, 4, 4, 4]
    assert layers["depthwise"].kind == "3x3 depthwise"
    # 12 x 12 cells of 8 channels that read 3 x 3 x 3 values; the heads 6 x 6 cells.
    assert layers["stem"].macs == 12 * 12 * 8 * 27
    assert layers["logits"].macs == 6 * 6 * 3 * 8
    # What int8 merges with the convolution: the output is that of the activation.
    assert (layers["stem"].output, layers["stem"].activation) == ("stem6", "Clip")
    assert (layers["expand"].output, layers["expand"].activation) == ("expand", "")
    assert layers["deltas"].group.endswith("boxes")
    assert layers["logits"].group.endswith("classes")
    assert layers["stem"].group.endswith("boxes and classes")


def test_companions_are_those_that_read_nothing_else(graph: onnx.ModelProto) -> None:
    among = quantised_nodes(graph)
    assert companions(graph, ["stem"], among) == ["stem", "stem_act"]
    # The residual adds what "depthwise" gives too.
    assert companions(graph, ["expand"], among) == ["expand"]
    both = companions(graph, ["depthwise", "expand"], among)
    assert both == ["depthwise", "depthwise_act", "expand", "residual"]


def test_module_names() -> None:
    assert module_name("model.backbone.layers.block1.depthwise.conv.weight") == (
        "backbone.block1.depthwise"
    )
    assert module_name("model.head.regression.levels.2.output.weight") == (
        "head.regression.2.output"
    )


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v2", "yolov3"])
def test_macs_are_those_that_the_profiler_counts(
    name: str, small_detector: Callable[..., Detector]
) -> None:
    detector = small_detector(name)
    layers = layers_of(to_onnx(detector))
    assert sum(layer.macs for layer in layers) == trace_detector(detector, folded=True).macs
    parts = {layer.group.split(",")[0] for layer in layers}
    assert parts == {"backbone", "neck", "head"}
    heads = {layer.group for layer in layers if layer.group.startswith("head")}
    # One convolution of a YOLO head gives boxes and scores, SSD has one for each.
    expected = {"head, boxes and classes"} if name == "yolov3" else {"head, boxes", "head, classes"}
    assert heads == expected
