"""What a network consists of: against torch's own counters and runs, and hand-worked graphs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from flyweight.compression.fold import fold
from flyweight.core.errors import InputError
from flyweight.models.backbones import BACKBONES, build_classifier
from flyweight.models.detectors import Detector
from flyweight.models.detectors.zoo import ZOO, build
from flyweight.profiling.operation import NetworkCost, Operation
from flyweight.profiling.prices import KINDS
from flyweight.profiling.trace import trace, trace_detector

SMALL = {"ssd300_vgg16": 300, "faster_rcnn_vgg16": 64}


class Uninitialised(TorchFunctionMode):
    """Without memory there is nothing to fill with random values, and torch takes its time for it.

    A network is built in half the time.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "fill_", "zero_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def without_memory(name: str, **options: Any) -> Detector:
    with torch.device("meta"), Uninitialised():
        return build(name, classes=["card"], **options).eval()


ELEMENTWISE = (
    nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.LeakyReLU, nn.Mish, nn.SiLU,
    nn.Dropout,
)  # fmt: skip


def flops(network: nn.Module, images: Tensor) -> int:
    """torch's own count, in which norms and activations have no part: without them it is quick."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ELEMENTWISE):
                setattr(parent, name, nn.Identity())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return int(counter.get_total_flops())


def share(cost: NetworkCost, prefix: str) -> float:
    return sum(each.macs for each in cost.operations if each.layer.startswith(prefix)) / cost.macs


def only(cost: NetworkCost, kind: str) -> Operation:
    (found,) = (each for each in cost.operations if each.kind == kind)
    return found


@pytest.mark.parametrize("name", ZOO)
def test_detectors_count_as_torch_counts(name: str) -> None:
    detector = without_memory(name, size=SMALL.get(name, 128))
    cost = trace_detector(detector)
    assert cost.params == sum(each.numel() for each in detector.model.parameters())
    one_stage = [each for each in cost.operations if not each.layer.startswith("roi_head")]
    images = torch.empty((1, 3, *detector.preprocessing.size_hw), device="meta")
    assert 2 * sum(each.macs for each in one_stage) == flops(detector.model, images)


@pytest.mark.parametrize("name", BACKBONES)
def test_classifiers_count_as_torch_counts(name: str) -> None:
    with torch.device("meta"), Uninitialised():
        network, images = build_classifier(name).eval(), torch.empty(2, 3, 224, 224)
    cost = trace(network, (2, 3, 224, 224))
    assert cost.params == sum(each.numel() for each in network.parameters())
    assert 2 * cost.macs == flops(network, images)


@pytest.mark.parametrize(
    ("name", "width", "params", "macs"),
    [
        ("mobilenet_v1", 1.0, 4.2, 569),
        ("mobilenet_v2", 1.0, 3.5, 300),
        ("mobilenet_v3_large", 1.0, 5.5, 217),
        ("mobilenet_v3_small", 1.0, 2.5, 57),
        ("shufflenet_v2", 0.5, 1.4, 41),
        ("shufflenet_v2", 1.0, 2.3, 146),
        ("shufflenet_v2", 1.5, 3.5, 299),
        ("shufflenet_v2", 2.0, 7.4, 591),
        ("squeezenet1_0", 1.0, 1.25, 820),
        ("squeezenet1_1", 1.0, 1.24, 350),
        ("ghostnet", 1.0, 5.2, 141),
    ],
)
def test_published_figures(name: str, width: float, params: float, macs: float) -> None:
    """Millions at 224 pixels."""
    with torch.device("meta"), Uninitialised():
        cost = trace(build_classifier(name, width=width), (1, 3, 224, 224))
    assert cost.params / 1e6 == pytest.approx(params, rel=0.01, abs=0.05)
    # The paper of ShuffleNetV2 counts up to 1.5 % more than its authors' channels cost.
    tolerance = 0.015 if name == "shufflenet_v2" else 0.01
    assert cost.macs / 1e6 == pytest.approx(macs, rel=tolerance)


def test_the_slim_retinanet_is_the_articles() -> None:
    cost = trace_detector(without_memory("retinanet_snet", size=224))
    assert cost.macs / 1e6 == pytest.approx(165, rel=0.01)
    assert share(cost, "head.regression") == pytest.approx(0.273, rel=0.01)
    assert share(cost, "head.classification") == pytest.approx(0.266, rel=0.01)
    layers = Counter[str]()
    for each in cost.operations:
        layers[each.layer.removesuffix(".conv")] += each.macs
    names = ("tower.0", "tower.1", "tower.2", "output")
    macs = [layers[f"head.regression.{name}"] / 1e6 for name in names]
    assert macs == pytest.approx([8.68, 17.37, 17.37, 1.63], rel=0.01)


def test_the_second_stage_runs_once_a_proposal() -> None:
    detector = without_memory("faster_rcnn_resnet50_fpn", size=128)
    cost = trace_detector(detector)
    proposals = detector.postprocess.propose.keep  # type: ignore[attr-defined]
    linear = [each for each in cost.operations if each.kind == "linear"]
    assert [each.output_shape for each in linear] == [
        (proposals, 1024),
        (proposals, 1024),
        (proposals, 2),
        (proposals, 8),
    ]
    assert linear[0].macs == proposals * 256 * 49 * 1024
    pooled = [each for each in cost.operations if each.kind == "roi_align"]
    assert sum(each.output_shape[0] for each in pooled) == proposals
    assert len(cost.outputs) == 4


class Operators(TorchDispatchMode):
    """Counts the operators of a real run that give new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").removesuffix("_")
        # By memory, not by storage: that is how it is told without memory.
        memory = {each.untyped_storage().data_ptr() for each in _tensors(args)}
        first = _tensors(result)[0]
        if func._schema.is_mutable or first.untyped_storage().data_ptr() not in memory:
            self.found[KINDS.get(name, name)] += 1
        return result


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _tensors(each)]
    return []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ssdlite", {"backbone": "shufflenet_v2"}),
        ("ssdlite", {"backbone": "shufflenet_v1_g3", "width": 1.0}),
        ("ssdlite", {"backbone": "ghostnet"}),
        ("ssdlite320_mobilenet_v3_small", {"width": 0.25}),
        ("retinanet_snet", {"width": 0.25}),
        ("yolov4", {"width": 0.25}),
    ],
)
def test_operators_are_those_of_a_real_run(name: str, options: dict[str, Any]) -> None:
    """Kinds whose name depends on arguments stand under torch's own name."""
    given = {"width": 0.5, **options}
    detector = build(name, classes=["card"], size=96, **given).eval()
    images = torch.zeros(1, 96, 96, 3).permute(0, 3, 1, 2)
    with Operators() as real, torch.no_grad():
        detector.model(images)
    theirs = {
        "conv2d": "convolution",
        "relu6": "hardtanh",
        "global_avg_pool": "mean",
        "interpolate": "upsample_nearest2d",
    }
    kinds = [each.kind for each in trace_detector(detector).operations]
    ours = Counter(theirs.get(kind, kind) for kind in kinds)
    assert ours == Counter({k: n for k, n in real.found.items() if k not in ("empty", "detach")})


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v2", "yolov3", "retinanet_snet"])
def test_folded_is_what_folding_leaves(name: str) -> None:
    detector = build(name, classes=["card"], size=64, width=0.25).eval()
    folded = trace_detector(detector, folded=True)
    assert folded.operations == trace_detector(fold(detector)).operations
    assert folded.macs == trace_detector(detector).macs


def test_layers_are_modules_and_levels_share_their_weights() -> None:
    detector = without_memory("retinanet_snet", size=64)
    cost = trace_detector(detector)
    modules = dict(detector.model.named_modules())
    assert {each.layer for each in cost.operations} <= modules.keys()
    towers = [each for each in cost.operations if each.layer == "head.regression.tower.0.conv"]
    assert [each.params for each in towers] == [128 * 256, 0, 0, 0]
    assert {each.weight_bytes for each in towers} == {4 * 128 * 256}


def test_the_network_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    trace(network, (1, 3, 8, 8))
    assert network.training
    assert not network[0]._forward_hooks
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())


class Residual(nn.Module):
    """3 -> 8 channels, a branch that changes its input in place, an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(8, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.first(images))
        low, high = self.second(x).chunk(2, dim=1)
        return torch.cat((x, high, low.flatten(2).unflatten(2, x.shape[2:])), dim=1) + 1


def test_graph_and_bytes_by_hand() -> None:
    first, act, second, joined, added = trace(Residual(), (1, 3, 4, 5)).operations
    kinds = [each.kind for each in (first, act, second, joined, added)]
    assert kinds == ["conv2d", "relu", "conv2d", "concat", "add"]
    assert first.inputs == (-1,)
    assert first.params == 3 * 8 * 9 + 8
    assert first.macs == 3 * 8 * 9 * 20
    assert (first.read_bytes, first.written_bytes) == (4 * 3 * 20, 4 * 8 * 20)
    assert first.weight_bytes == 4 * first.params
    assert (act.layer, act.inputs, act.elementwise) == ("act", (0,), 160)
    assert second.inputs == (1,)
    # Views have no operation: both halves come from the convolution.
    assert joined.inputs == (1, 2, 2)
    assert joined.input_shapes == ((1, 8, 4, 5), (1, 4, 4, 5), (1, 4, 4, 5))
    assert joined.read_bytes == joined.written_bytes == 4 * 16 * 20
    assert joined.macs == joined.elementwise == 0
    assert added.layer == "Residual"
    assert added.access_bytes == 2 * 4 * 16 * 20
    # Floats of 20 pixels in use: 3 + 8, then 8 in place, 8 + 8, 8 + 8 + 16, 16 + 16.
    live = [each.live_bytes for each in (first, act, second, joined, added)]
    assert live == [80 * 11, 80 * 8, 80 * 16, 80 * 32, 80 * 32]


def test_intensity_is_of_both_operations_of_a_pair() -> None:
    cost = trace(nn.Conv2d(3, 4, 1, bias=False), (1, 3, 2, 2))
    assert only(cost, "conv2d").intensity == 2 * 3 * 4 * 4 / (4 * (3 * 4 + 4 * 4 + 12))


def test_half_precision_is_priced_as_float32() -> None:
    network = nn.Conv2d(3, 4, 3)
    assert trace(network.half(), (1, 3, 8, 8)) == trace(nn.Conv2d(3, 4, 3), (1, 3, 8, 8))


def test_too_small_an_input_is_refused() -> None:
    with pytest.raises(InputError, match="4x4"):
        trace(nn.Conv2d(3, 4, 7), (1, 3, 4, 4))
