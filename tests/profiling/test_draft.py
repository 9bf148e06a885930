"""Drafted operations are those that a trace of the same network finds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.operation import Geometry
from flyweight.profiling.trace import trace


class Network(nn.Module):
    """Convolutions of every family, a pooling and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.grouped = nn.Conv2d(8, 16, 1, groups=4)
        self.pointwise = nn.Conv2d(16, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.stem(images))
        y = self.pointwise(self.grouped(nn.functional.relu6(self.depthwise(x))))
        return nn.functional.max_pool2d(x + y, 3, 2, 1)


def test_a_draft_prices_what_a_trace_finds() -> None:
    found = trace(Network(), (1, 3, 31, 45)).operations
    made = Draft((1, 3, 31, 45))
    x = made.conv(INPUT, 8, kernel=3, stride=2, act="relu")
    y = made.depthwise(x, kernel=5, act="relu6")
    y = made.conv(made.conv(y, 16, groups=4), 8)
    made.pool("max_pool2d", made.add("add", [x, y]), kernel=3, stride=2)
    drafted = made.cost("network").operations
    for mine, theirs in zip(drafted, found, strict=True):
        assert mine.kind == theirs.kind
        assert mine.inputs == theirs.inputs
        assert mine.input_shapes == theirs.input_shapes
        assert mine.output_shape == theirs.output_shape
        assert (mine.params, mine.macs) == (theirs.params, theirs.macs)
        assert mine.access_bytes == theirs.access_bytes
        assert mine.geometry == theirs.geometry
    assert len(drafted) == 8


def test_a_convolution_by_hand() -> None:
    made = Draft((1, 16, 10, 20))
    index = made.conv(INPUT, 32, kernel=3, stride=2, groups=4)
    [operation] = made.cost("one").operations
    assert index == 0
    assert operation.output_shape == (1, 32, 5, 10)
    assert operation.params == 32 * 4 * 9 + 32
    assert operation.macs == 32 * 4 * 9 * 50
    assert operation.read_bytes == 4 * 16 * 200
    assert operation.written_bytes == 4 * 32 * 50
    assert operation.geometry == Geometry((3, 3), (2, 2), padding_hw=(1, 1), groups=4)
