"""ncnn's files say what torch says; int8 is checked against numpy and against ncnn itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from flyweight.compression.quantise_onnx import calibrate
from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError
from flyweight.export.onnx import export_manifest, to_onnx
from flyweight.export.parity import LIMITS, compare, reference_outputs, sample_inputs
from flyweight.models.detectors import Detector
from flyweight.models.detectors.zoo import build
from flyweight.runtime.ncnn_graph import NcnnLayer
from flyweight.runtime.ncnn_shapes import check_shapes
from flyweight.runtime.ncnn_weights import CONVOLUTIONS, NcnnModel, read_weights

ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed: pip install ncnn")
pnnx = pytest.importorskip("pnnx", reason="pnnx is not installed: pip install pnnx")

from flyweight.export.ncnn import _Planes, save_ncnn, to_ncnn  # noqa: E402
from flyweight.export.ncnn_int8 import onnx_twins, quantise_ncnn  # noqa: E402
from flyweight.runtime.ncnn_session import NcnnSession, set_options  # noqa: E402

Settle = Callable[[Detector], None]


@dataclass
class Converted:
    """What the tests of one small detector share."""

    detector: Detector
    model: NcnnModel
    graph: onnx.ModelProto
    ranges: dict[str, tuple[float, float]]
    inputs: list[np.ndarray]
    folder: Path

    def saved(self, model: NcnnModel, precision: str) -> NcnnSession:
        path = self.folder / f"{precision}.ncnn.param"
        manifest = export_manifest(self.detector, format="ncnn", precision=precision)
        save_ncnn(model, path, manifest=manifest, precision=precision)
        return NcnnSession(path, threads=1)


@pytest.fixture(scope="module")
def converted(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    inputs = sample_inputs(detector.preprocessing.size_hw)
    graph = to_onnx(detector)
    ranges = calibrate(graph, [np.stack(inputs)], threads=1)
    folder = tmp_path_factory.mktemp("ncnn")
    return Converted(detector, to_ncnn(detector), graph, ranges, inputs, folder)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_says_what_torch_says(converted: Converted, precision: str) -> None:
    session = converted.saved(converted.model, precision)

    references = reference_outputs(converted.detector, converted.inputs)
    compare(references, session, converted.inputs).check(precision, LIMITS[precision])

    assert session.precision == precision
    assert session.manifest.lineage["export"]["format"] == "ncnn"
    assert session.size_hw == converted.detector.preprocessing.size_hw


def test_half_precision_rounds_where_pnnx_itself_cuts(converted: Converted) -> None:
    height, width = converted.detector.preprocessing.size_hw
    example = torch.zeros(1, 3, height, width)
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(_Planes(converted.detector), example, check_trace=False)
    traced.save(str(converted.folder / "model.pt"))
    command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[1,3,{height},{width}]", "fp16=1"]
    subprocess.run(command, cwd=converted.folder, capture_output=True, check=True)

    converted.saved(converted.model, "fp16")

    layers, full = converted.model.layers, converted.model.weights
    theirs, ours = (
        read_weights(layers, np.fromfile(converted.folder / name, np.uint8))
        for name in ("model.ncnn.bin", "fp16.ncnn.bin")
    )
    halves = 0
    for exact, cut, rounded in zip(full, theirs, ours, strict=True):
        assert [each.dtype for each in cut] == [each.dtype for each in rounded]
        for value, their, our in zip(exact, cut, rounded, strict=True):
            halves += our.dtype == np.float16
            assert (np.abs(value - our) <= np.abs(value - their)).all()
            np.testing.assert_allclose(our, their, rtol=2**-10)
    assert halves == sum(layer.kind in CONVOLUTIONS for layer in layers)


FAMILIES = {
    "ssdlite320_mobilenet_v3_small": {"size": 64},
    "mobilenet_ssd300": {"size": 64, "width": 0.25},
    # L2 normalisation of the finest level, and channels that change places.
    "ssd": {"size": 96, "backbone": "mobilenet_v1", "width": 0.25, "l2_norm": True},
    "ssdlite": {"size": 64, "backbone": "shufflenet_v1_g4", "width": 0.5},
    "retinanet_snet": {"size": 64},
    "yolov3": {"size": 64, "backbone": "mobilenet_v1", "width": 0.25},
    "yolov4": {"size": 64, "backbone": "shufflenet_v2", "width": 0.5},
    "ssd300_vgg16": {"size": 300},
    "retinanet_resnet50_fpn": {"size": 128},
    "yolov3_darknet53": {"size": 64},
    "yolov4_cspdarknet53": {"size": 64},
}
QUICK = ("ssdlite320_mobilenet_v3_small", "retinanet_snet")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES],
)
def test_every_single_stage_family(name: str, settle_norms: Settle, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = build(name, classes=["only"], **FAMILIES[name]).eval()  # type: ignore[arg-type]
    settle_norms(made)
    inputs = sample_inputs(made.preprocessing.size_hw, count=2)
    path = tmp_path / "model.ncnn.param"

    save_ncnn(to_ncnn(made), path, manifest=export_manifest(made, format="ncnn"))

    compare(reference_outputs(made, inputs), NcnnSession(path, threads=1), inputs).check(name)


def test_two_stages_are_refused_with_the_reason() -> None:
    made = build("faster_rcnn", classes=["a"], size=64, backbone="mobilenet_v2")

    with pytest.raises(InputError, match="two-stage"):
        to_ncnn(made)


def test_a_layer_that_ncnn_lacks_is_named(detector: Detector) -> None:
    class Sorted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x.sort(dim=1).values.repeat(1, 6, 1, 1)[:, :16, ::16, ::16]]

    backbone = detector.model.backbone
    detector.model.backbone = Sorted()
    try:
        with pytest.raises(InputError, match=r"no layer for .*sort"):
            to_ncnn(detector)
    finally:
        detector.model.backbone = backbone


def test_shapes_are_those_that_ncnn_makes(settle_norms: Settle, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = build("yolov4", classes=["a", "b"], size=64, backbone="shufflenet_v2", width=0.5).eval()
    settle_norms(made)
    model, path = to_ncnn(made), tmp_path / "model.ncnn.param"
    save_ncnn(model, path, manifest=export_manifest(made, format="ncnn"))
    inputs = sample_inputs((64, 64), count=2)
    compare(reference_outputs(made, inputs), NcnnSession(path, threads=1), inputs).check("yolov4")
    net = ncnn.Net()
    set_options(net.opt, 1)
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))
    extractor = net.create_extractor()
    extractor.set_light_mode(False)
    mat = ncnn.Mat.from_pixels(inputs[0], ncnn.Mat.PixelType.PIXEL_RGB, 64, 64)
    extractor.input("images", mat)

    found = check_shapes(model.layers, model.weights)

    assert len(found) > 100
    for name, blob in found.items():
        assert np.array(extractor.extract(name)[1]).shape == blob.shape, name


def test_int8_of_a_detector(converted: Converted) -> None:
    quantised = quantise_ncnn(converted.model, converted.graph, converted.ranges)
    session = converted.saved(quantised, "int8")

    parity = compare(
        reference_outputs(converted.detector, converted.inputs),
        session,
        converted.inputs,
        seen_only=True,
    )

    assert session.precision == "int8"
    # Off by more than fp16, and by no more than eight bits make of scores.
    assert 1e-3 < parity.max_score_error < 0.15
    sizes = [
        sum(array.nbytes for arrays in model.weights for array in arrays[:1])
        for model in (quantised, converted.model)
    ]
    assert sizes[0] < 0.5 * sizes[1]


def test_int8_leaves_in_float_what_it_is_told(converted: Converted) -> None:
    convolutions = [node.name for node in converted.graph.graph.node if node.op_type == "Conv"]

    same = quantise_ncnn(
        converted.model, converted.graph, converted.ranges, keep_float=convolutions
    )
    but_one = quantise_ncnn(
        converted.model, converted.graph, converted.ranges, keep_float=convolutions[1:]
    )

    assert same.layers == converted.model.layers
    changed = [a != b for a, b in zip(but_one.layers, same.layers, strict=True)]
    assert sum(changed) == 1
    assert same.layers[changed.index(True)].kind == "Convolution"


def test_every_convolution_has_its_twin_in_the_onnx_graph(converted: Converted) -> None:
    twins = onnx_twins(converted.model, converted.graph)
    stored = {
        each.name: onnx.numpy_helper.to_array(each) for each in converted.graph.graph.initializer
    }

    convolutions = [
        at for at, layer in enumerate(converted.model.layers) if layer.kind in CONVOLUTIONS
    ]
    assert list(twins) == convolutions
    assert len({twin.node for twin in twins.values()}) == len(convolutions)
    for at, twin in twins.items():
        np.testing.assert_array_equal(converted.model.weights[at][0], stored[twin.weight].ravel())


def test_a_graph_of_another_detector_has_no_twins(converted: Converted) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(converted.graph)
    weight = next(node.input[1] for node in other.graph.node if node.op_type == "Conv")
    (tensor,) = [each for each in other.graph.initializer if each.name == weight]
    changed = onnx.numpy_helper.to_array(tensor) + 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, weight))

    with pytest.raises(InputError, match="not in the ONNX graph"):
        onnx_twins(converted.model, other)


@pytest.mark.parametrize("precision", ["fp16", "int8", "bf16"])
def test_precisions_that_a_model_does_not_have(
    converted: Converted, precision: str, tmp_path: Path
) -> None:
    int8 = quantise_ncnn(converted.model, converted.graph, converted.ranges)
    model = int8 if precision == "fp16" else converted.model

    with pytest.raises(InputError, match=precision):
        save_ncnn(
            model,
            tmp_path / "x.ncnn.param",
            manifest=export_manifest(converted.detector, format="ncnn"),
            precision=precision,
        )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(converted: Converted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="cannot write"):
        save_ncnn(
            converted.model,
            tmp_path / "file" / "x.ncnn.param",
            manifest=export_manifest(converted.detector, format="ncnn"),
        )


def test_layers_are_plain_data() -> None:
    layer = NcnnLayer("Pooling", "p", ("a",), ("b",), {0: "1", 1: "3.5", 3: ("1", "2")})

    assert layer.integer(0) == 1
    assert layer.integer(9, 7) == 7
    assert layer.integers(3) == (1, 2)
    with pytest.raises(ValueError, match=r"3\.5"):
        layer.integer(1)
