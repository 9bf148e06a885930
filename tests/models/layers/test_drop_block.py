"""DropBlock, against torchvision's and the paper's words."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torchvision.ops import drop_block2d

from flyweight.models.layers import DropBlock


@pytest.mark.parametrize(("size", "block"), [((12, 16), 3), ((9, 9), 7), ((5, 9), 7)])
def test_equals_torchvision(size: tuple[int, int], block: int) -> None:
    layer = DropBlock(0.2, block_size=block).train()
    layer.set_progress(1.0)
    x = torch.randn(4, 8, *size)
    torch.manual_seed(3)
    ours = layer(x)
    torch.manual_seed(3)
    theirs = drop_block2d(x, p=0.2, block_size=block)
    assert (ours == 0).any()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_schedule_is_linear() -> None:
    layer = DropBlock(0.1)
    assert layer.probability == 0
    for progress, probability in ((0.0, 0.0), (0.25, 0.025), (0.5, 0.05), (1.0, 0.1), (1.5, 0.1)):
        layer.set_progress(progress)
        assert layer.probability == pytest.approx(probability)


def test_drops_squares_at_about_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropBlock(0.1, block_size=5).train()
    layer.set_progress(1.0)
    out = layer(torch.ones(8, 16, 32, 32))
    dropped = (out == 0).float()
    assert float(dropped.mean()) == pytest.approx(0.1, abs=0.02)
    assert float(out.mean()) == pytest.approx(1.0, abs=1e-4)
    # Opening by a 5×5 square leaves a union of 5×5 squares as it is.
    eroded = 1 - functional.max_pool2d(functional.pad(1 - dropped, [2] * 4, value=1.0), 5, 1)
    opened = functional.max_pool2d(eroded, 5, 1, 2)
    assert torch.equal(opened, dropped)


def test_is_the_identity_outside_training() -> None:
    layer = DropBlock(0.5)
    x = torch.randn(1, 2, 8, 8)
    assert layer.train()(x) is x
    layer.set_progress(1.0)
    assert layer.eval()(x) is x
