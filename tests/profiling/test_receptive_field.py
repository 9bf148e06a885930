"""Receptive fields against published tables, hand-worked cases and gradients."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from flyweight.models.backbones import build_backbone
from flyweight.models.detectors.zoo import build
from flyweight.models.layers import DeformableConv
from flyweight.profiling.receptive_field import prediction_levels
from flyweight.profiling.trace import trace, trace_detector

SIDE = 512


def backbone_fields(name: str, levels: Sequence[str]) -> list[int | None]:
    with torch.device("meta"):
        cost = trace(build_backbone(name, outputs=levels), (1, 3, SIDE, SIDE))
    return [cost.operations[place].receptive_field for place in cost.outputs]


@pytest.mark.parametrize(
    ("name", "level", "side"),
    [
        # Araujo et al. 2019, the table of section "Discussion".
        ("vgg16", "C5", 212),
        ("mobilenet_v1", "C5", 315),
        ("resnet18", "C5", 435),
        ("resnet34", "C5", 899),
        # Theirs strides in the last unit of a stage and has 483 and 1027. Striding in the first
        # one, three 3×3 convolutions see 8, 16 and 32 pixels less far.
        ("resnet50", "C5", 483 - 8 - 16 - 32),
        ("resnet101", "C5", 1027 - 8 - 16 - 32),
    ],
)
def test_published_fields(name: str, level: str, side: int) -> None:
    assert backbone_fields(name, [level]) == [side]


def test_vgg16_layer_by_layer() -> None:
    """3 + 2, pool 1, each 3×3 two cells of 2 pixels ...: Simonyan and Zisserman 2014, table 1."""
    with torch.device("meta"):
        cost = trace(build_backbone("vgg16", outputs=["C5"]), (1, 3, SIDE, SIDE))
    fields = [e.receptive_field for e in cost.operations if e.kind in ("conv2d", "max_pool2d")]
    assert fields == [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212]


def field_of(*layers: nn.Module) -> tuple[int | None, int | None]:
    last = trace(nn.Sequential(*layers), (1, 3, 64, 64)).operations[-1]
    return last.receptive_field, last.stride


@pytest.mark.parametrize(
    ("layers", "side", "stride"),
    [
        ([nn.Conv2d(3, 4, 3, dilation=2)], 5, 1),
        ([nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, dilation=3)], 3 + 2 * 3 * 2, 2),
        ([nn.Conv2d(3, 4, (5, 1)), nn.Conv2d(4, 4, (1, 5))], 5, 1),
        ([nn.Conv2d(3, 4, (1, 7), stride=(1, 2))], 7, 2),
        ([nn.AvgPool2d(2), nn.MaxPool2d(3, 2)], 2 + 2 * 2, 4),
        ([nn.Conv2d(3, 4, 3, stride=4), nn.ConvTranspose2d(4, 4, 4, stride=2)], 3 + 4, 2),
        ([nn.Conv2d(3, 4, 3, stride=4), nn.ConvTranspose2d(4, 4, 2, stride=2)], 3, 2),
        ([nn.Conv2d(3, 4, 3, stride=4), nn.Upsample(scale_factor=2)], 3, 2),
        ([nn.AvgPool2d(4), nn.Upsample(scale_factor=2, mode="bilinear")], 8, 2),
        ([nn.Upsample(scale_factor=2)], 1, None),
        ([nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)], None, None),
        ([nn.Conv2d(3, 4, 3), nn.Linear(62, 5)], None, None),
        ([DeformableConv(3, 4, kernel_size=5)], 5, 1),
    ],
    ids=str,
)
def test_fields_by_hand(layers: list[nn.Module], side: int | None, stride: int | None) -> None:
    assert field_of(*layers) == (side, stride)


class Meeting(nn.Module):
    """Three branches of one map that meet."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 3, 7, padding=3)
        self.narrow = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        narrow = self.narrow(x)
        gate = narrow.mean((2, 3), keepdim=True).sigmoid()
        joined = torch.cat((self.wide(x) + x, narrow * gate), dim=1)
        return self.last(joined[:, :, ::2, ::4]), narrow * gate, torch.cat([x, joined], 1)


def test_the_larger_field_counts_and_gates_say_nothing_about_places() -> None:
    cost = trace(Meeting(), (1, 3, 32, 32))
    last, gated, joined = (cost.operations[place] for place in cost.outputs)
    assert (last.receptive_field, last.stride) == (7, 4)  # every second row, every fourth column
    assert (gated.receptive_field, gated.stride) == (3, 1)
    assert (joined.receptive_field, joined.stride) == (7, 1)


@pytest.mark.parametrize(
    ("name", "strides", "anchors"),
    [
        ("ssdlite320_mobilenet_v2", (16, 32, 64, 128, 256, 512), 6),
        ("retinanet_snet", (16, 32, 64, 128), 6),
        ("yolov3_darknet53", (8, 16, 32), 3),
        ("faster_rcnn_resnet50_fpn", (4, 8, 16, 32, 64), 3),
        ("faster_rcnn_vgg16", (16,), 9),
    ],
)
def test_levels_that_predict(name: str, strides: tuple[int, ...], anchors: int) -> None:
    with torch.device("meta"):
        detector = build(name, classes=["card"])
    levels = prediction_levels(trace_detector(detector))
    assert tuple(each.stride for each in levels) == strides
    fields = [each.receptive_field for each in levels]
    assert all(isinstance(each, int) for each in fields)
    assert all(each.output_shape[1] % anchors == 0 for each in levels)


def even(network: nn.Module) -> nn.Module:
    """The network as an average with positive weights, through which every gradient passes."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.GroupNorm):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                # A maximum would let a single gradient through.
                average = nn.AvgPool2d(
                    child.kernel_size, child.stride, child.padding, child.ceil_mode
                )
                setattr(parent, name, average)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.constant_(parameter, 1 / parameter[0].numel())
        else:
            nn.init.zeros_(parameter)
    return network.eval()


def extent(cells: Tensor, images: Tensor) -> int:
    """The longer side of what the middle cell's gradient reaches."""
    rows, columns = cells.shape[-2:]
    (gradient,) = torch.autograd.grad(
        cells[..., rows // 2, columns // 2].sum(), images, retain_graph=True
    )
    reached = (gradient != 0).any(1)[0]
    # From end to end: dilated windows may leave pixels between them out.
    spans = (reached.any(axis).nonzero() for axis in (0, 1))
    return max(int(span.max() - span.min()) + 1 for span in spans)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("vgg16", ["C3", "C4", "C5"]),
        ("resnet18", ["C2", "C3", "C4"]),
        ("resnet50", ["C3", "C4", "C5"]),
        ("mobilenet_v1", ["C3", "C4", "C5"]),
        ("mobilenet_v2", ["C3", "C4", "C5"]),
        ("shufflenet_v2", ["C3", "C4"]),
        ("document_net", ["C3", "C4", "C5"]),
    ],
)
def test_fields_are_what_gradients_reach(name: str, levels: list[str]) -> None:
    network = even(build_backbone(name, outputs=levels, width=0.25))
    side = 576 if name in ("mobilenet_v2", "resnet50") else 448
    # Small, or ReLU6 would be full and let nothing through.
    images = torch.full((1, 3, side, side), 1e-6, requires_grad=True)
    reached = [extent(level, images) for level in network(images)]
    assert reached == backbone_fields(name, levels)
    assert max(reached) < side
