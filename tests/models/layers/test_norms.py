"""Normalisations: against BatchNorm over what they claim to normalise over, and by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from flyweight.compression.fold import fold
from flyweight.core.errors import InputError
from flyweight.models.layers import (
    CmBN,
    ConvNormAct,
    FrozenBatchNorm,
    L2Norm,
    group_norm,
)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 4), (24, 2), (8, 1), (208, 13), (116, 29), (6, 1), (2, 1)]
)
def test_group_norm_divides_the_channels(channels: int, groups: int) -> None:
    norm = group_norm(channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups
    x = torch.randn(3, channels, 5, 4)
    grouped = x.view(3, groups, -1)
    mean = grouped.mean(-1, keepdim=True)
    variance = grouped.var(-1, correction=0, keepdim=True)
    expected = ((grouped - mean) / (variance + norm.eps).sqrt()).view_as(x)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 17, 37])
def test_channels_that_no_group_divides_name_the_part(channels: int) -> None:
    make = partial(group_norm, part="backbone")
    with pytest.raises(InputError, match=rf"{channels} channels cannot be grouped.*\(backbone\)"):
        make(channels)


def test_frozen_batch_norm_never_changes() -> None:
    layer = ConvNormAct(3, 8, norm=partial(FrozenBatchNorm, eps=1e-3))
    norm = layer.norm
    assert isinstance(norm, FrozenBatchNorm)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    plain = nn.BatchNorm2d(8, eps=1e-3).eval()
    plain.load_state_dict(before)
    layer.train()
    x = torch.randn(4, 3, 6, 6)
    out = layer(x)
    out.square().mean().backward()
    assert not norm.training
    assert layer.conv.weight.grad is not None
    assert all(parameter.grad is None for parameter in norm.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())
    torch.testing.assert_close(out, plain(layer.conv(x)).relu())


def test_cmbn_is_batch_norm_over_the_mini_batches_so_far() -> None:
    ours = CmBN(6, mini_batches=4).train()
    theirs = nn.BatchNorm2d(6)
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    whole = nn.BatchNorm2d(6).train()
    for batch in range(3):
        # Mini-batches of different sizes and distributions.
        parts = [torch.randn(1 + n % 2, 6, 4, 5) * (n + 1) + n for n in range(4)]
        for index, part in enumerate(parts):
            expected = theirs.train()(torch.cat(parts[: index + 1]))[-len(part) :]
            torch.testing.assert_close(ours(part), expected, atol=1e-5, rtol=1e-5)
        # The running statistics know whole batches only.
        whole(torch.cat(parts))
        assert ours.running_mean is not None
        assert ours.running_var is not None
        torch.testing.assert_close(ours.running_mean, whole.running_mean)
        torch.testing.assert_close(ours.running_var, whole.running_var)
        assert int(ours.num_batches_tracked) == batch + 1


def test_cmbn_gradients_flow_through_the_mini_batch_at_hand() -> None:
    first, second = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    weights = torch.randn(2, 3, 4, 4)
    ours = CmBN(3, mini_batches=2).train()
    ours(first)
    x = second.clone().requires_grad_()
    (ours(x) * weights).sum().backward()
    theirs = nn.BatchNorm2d(3).train()
    y = second.clone().requires_grad_()
    (theirs(torch.cat((first, y)))[2:] * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_cmbn_with_one_mini_batch_is_batch_norm() -> None:
    ours, theirs = CmBN(4, mini_batches=1).train(), nn.BatchNorm2d(4).train()
    x = torch.randn(3, 4, 5, 5)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_cmbn_starts_anew_after_evaluation() -> None:
    ours = CmBN(4, mini_batches=3).train()
    ours(torch.randn(2, 4, 3, 3) + 5)
    ours.eval()
    ours.train()
    x = torch.randn(2, 4, 3, 3)
    expected = nn.BatchNorm2d(4).train()(x)
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", [partial(CmBN, mini_batches=2), FrozenBatchNorm])
def test_both_fold_like_batch_norm(norm: type[nn.BatchNorm2d]) -> None:
    layer = ConvNormAct(3, 8, norm=norm)
    assert layer.state_dict().keys() == ConvNormAct(3, 8).state_dict().keys()
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    folded = fold(layer.eval())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(folded(x), layer(x), atol=1e-5, rtol=1e-5)


def test_l2_norm_gives_every_pixel_the_scales_length() -> None:
    norm = L2Norm(5)
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(norm(x).norm(dim=1), torch.full((2, 3, 4), 20.0))
    with torch.no_grad():
        norm.scale.copy_(torch.arange(5.0))
    expected = x / x.square().sum(1, keepdim=True).sqrt() * torch.arange(5.0).view(1, 5, 1, 1)
    torch.testing.assert_close(norm(x), expected)
    assert norm(torch.zeros(1, 5, 2, 2)).isfinite().all()
