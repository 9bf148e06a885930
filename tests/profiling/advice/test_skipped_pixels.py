"""What a convolution reads, against the gradient of its input."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import conv2d

from flyweight.models.detectors.zoo import ZOO
from flyweight.profiling.advice.apply import improve
from flyweight.profiling.advice.context import Context, context_of
from flyweight.profiling.advice.rules import rules_named
from flyweight.profiling.advice.skipped_pixels import read_share, skipped_pixels
from tests.profiling.advice.hand_made import Network


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), list(itertools.product((1, 3, 5), (1, 2, 3, 4), (1, 2, 3)))
)
def test_read_share_is_that_of_cells_with_a_gradient(
    kernel: int, stride: int, dilation: int
) -> None:
    side = 12 * 8
    network = Network(side)
    network.conv(-1, 1, kernel=kernel, stride=stride, dilation=dilation)
    image = torch.zeros(1, 1, side, side, requires_grad=True)
    ones = torch.ones(1, 1, kernel, kernel)
    padding = dilation * (kernel // 2)
    conv2d(image, ones, stride=stride, dilation=dilation, padding=padding).sum().backward()
    assert image.grad is not None
    middle = image.grad[0, 0, 24:-24, 24:-24] > 0  # what lies at the border is read less often
    assert read_share(network.operations[0]) == pytest.approx(middle.float().mean().item())


def test_a_stride_over_the_holes_of_a_dilated_kernel() -> None:
    network = Network()
    network.conv(-1, 16, kernel=3, stride=2, dilation=2, layer="stem")
    (advice,) = skipped_pixels(Context(network.cost()))
    assert (advice.layers, advice.serves) == (("stem",), "accuracy")
    assert "only 25%" in advice.finding


def test_what_another_layer_reads_is_not_lost() -> None:
    """The shortcut of a ResNet: 1×1 of stride 2 beside a 3×3 that reads all."""
    network = Network()
    stem = network.conv(-1, 16, kernel=3, stride=2)
    network.conv(stem, 16, stride=2)
    assert len(skipped_pixels(Context(network.cost()))) == 1
    network.conv(stem, 16, kernel=3, stride=2)
    assert skipped_pixels(Context(network.cost())) == []


def test_the_slim_retinanet_can_be_told_to_read_all() -> None:
    context = context_of(ZOO["retinanet_snet"](num_classes=1))
    improved = improve(context, rules=rules_named(["skipped_pixels"]))
    assert dict(improved.config.backbone_options)["stem_dilation"] == 1
    assert (improved.saving.macs, improved.saving.params) == (0, 0)
    assert skipped_pixels(context_of(improved.config)) == []
