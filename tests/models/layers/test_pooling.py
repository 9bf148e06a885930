"""Poolings and the way back, against torch's modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flyweight.models.layers import GlobalAveragePool, IndexedMaxPool, MaxUnpool


def test_global_average_equals_torch() -> None:
    x = torch.randn(2, 5, 7, 4)
    torch.testing.assert_close(GlobalAveragePool()(x), nn.AdaptiveAvgPool2d(1)(x))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 3, 1), (2, None, 0)])
def test_pool_and_unpool_equal_torch(kernel: int, stride: int | None, padding: int) -> None:
    x = torch.randn(2, 3, 9, 12)
    maxima, indices = IndexedMaxPool(kernel, stride=stride, padding=padding)(x)
    theirs, their_indices = nn.MaxPool2d(kernel, stride, padding, return_indices=True)(x)
    assert torch.equal(maxima, theirs)
    assert torch.equal(indices, their_indices)
    back = MaxUnpool()(maxima, indices, size_hw=(9, 12))
    unpool = nn.MaxUnpool2d(kernel, stride, padding)
    assert torch.equal(back, unpool(theirs, their_indices, output_size=x.shape))
    # Every maximum is where it was, and all else is zero.
    assert torch.equal(back[back != 0], x[back != 0])
    assert (back != 0).sum() == maxima.numel()


def test_overlapping_windows_share_their_maxima() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 3.0
    maxima, indices = IndexedMaxPool(3, stride=1)(x)
    assert torch.equal(MaxUnpool()(maxima, indices, size_hw=(5, 5)), x)


def test_gradients_return_to_the_maxima() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
    MaxUnpool()(*IndexedMaxPool(2)(x), size_hw=(4, 4)).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().nonzero().flatten().tolist() == [5, 7, 13, 15]
