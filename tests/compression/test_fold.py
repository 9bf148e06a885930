from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from flyweight.compression.fold import fold, kept_norms, unfolded_norms
from flyweight.models.detectors import Detector, load, save
from flyweight.models.layers import DeformableConv

M = TypeVar("M", bound=nn.Module)


def lively(module: M, seed: int = 0) -> M:
    """`module` with BatchNorms that do something."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator, dtype=like.dtype) * (high - low) + low

    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.copy_(uniform(norm.running_mean, -0.5, 0.5))
                norm.running_var.copy_(uniform(norm.running_var, 0.3, 2))
                if norm.affine:
                    norm.weight.copy_(uniform(norm.weight, 0.5, 1.5))
                    norm.bias.copy_(uniform(norm.bias, -0.5, 0.5))
    return module.eval()


CASES = {
    "conv": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), (2, 3, 9, 9)),
    "conv without bias": (
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=0.1), nn.ReLU6()),
        (2, 3, 9, 9),
    ),
    "depthwise": (
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)),
        (2, 8, 9, 9),
    ),
    "norm without weights": (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, affine=False)),
        (2, 3, 5, 5),
    ),
    "conv in one dimension": (
        nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)),
        (2, 3, 9),
    ),
    "transposed": (
        nn.Sequential(nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), nn.BatchNorm2d(8)),
        (2, 6, 5, 7),
    ),
    "transposed in groups": (
        nn.Sequential(nn.ConvTranspose2d(6, 9, 3, groups=3, bias=False), nn.BatchNorm2d(9)),
        (2, 6, 5, 7),
    ),
    "grouped": (
        nn.Sequential(nn.Conv2d(6, 9, 3, groups=3), nn.BatchNorm2d(9)),
        (2, 6, 7, 7),
    ),
    "transposed depthwise": (
        nn.Sequential(nn.ConvTranspose2d(6, 6, 2, stride=2, groups=6), nn.BatchNorm2d(6)),
        (2, 6, 4, 4),
    ),
    "transposed in one dimension": (
        nn.Sequential(nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)),
        (2, 4, 9),
    ),
    "linear without bias": (
        nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)),
        (5, 6),
    ),
    "deformable": (
        nn.Sequential(DeformableConv(4, 8, modulated=True), nn.BatchNorm2d(8)),
        (2, 4, 6, 6),
    ),
    "linear": (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU()), (5, 6)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_function_stays_and_the_norm_goes(case: str) -> None:
    original, shape = CASES[case]
    lively(original.double())
    weights = {name: value.clone() for name, value in original.state_dict().items()}
    folded = fold(original)
    assert unfolded_norms(folded) == []
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(folded(x), original(x), rtol=1e-12, atol=1e-12)
    assert unfolded_norms(original) == ["1"]
    for name, value in original.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_weights_are_those_of_torch() -> None:
    conv, norm = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)
    pair = lively(nn.Sequential(conv, norm))
    expected = fuse_conv_bn_eval(conv, norm)
    folded = fold(pair)
    torch.testing.assert_close(folded[0].weight, expected.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(folded[0].bias, expected.bias, rtol=1e-6, atol=1e-7)


def test_what_cannot_be_folded_stays() -> None:
    conv = nn.Conv2d(3, 3, 1)
    shared = nn.Sequential(
        nn.Sequential(conv, nn.BatchNorm2d(3)), nn.Sequential(conv, nn.BatchNorm2d(3))
    )
    first = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    batch_only = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    for module, left in ((shared, ["0.1", "1.1"]), (first, ["0", "3"]), (batch_only, ["1"])):
        lively(module) if module is not batch_only else module.eval()
        folded = fold(module)
        assert unfolded_norms(folded) == left
        x = torch.randn(2, 3, 4, 4)
        torch.testing.assert_close(folded(x), module(x))


def test_group_norm_is_left_and_named() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1))
    module.append(nn.BatchNorm2d(8))
    lively(module)
    folded = fold(module)
    assert isinstance(folded[1], nn.GroupNorm)
    assert kept_norms(folded) == kept_norms(module) == ["1"]
    assert unfolded_norms(folded) == []
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(folded(x), module(x))


def test_channels_last_weights_stay_so() -> None:
    pair = lively(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    folded = fold(pair.to(memory_format=torch.channels_last))
    weight = folded.get_parameter("0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def raw_tensors(detector: Detector, images: torch.Tensor) -> list[torch.Tensor]:
    """What the network says, before it is decoded."""
    raw = detector.model(detector.normalise(images))
    parts = [each for part in raw for each in (part if isinstance(part, list) else [part])]
    return [each for each in parts if isinstance(each, torch.Tensor)]


def test_a_folded_detector_says_the_same_and_reloads(
    zoo_name: str, small_detector: Callable[..., Detector], tmp_path: Path
) -> None:
    detector = small_detector(zoo_name)
    lively(detector)
    folded = fold(detector)
    assert folded.config.folded
    assert not detector.config.folded
    assert unfolded_norms(folded) == []
    size_hw = detector.preprocessing.size_hw
    images = torch.randint(0, 256, (2, *size_hw, 3), dtype=torch.uint8)
    # In float64, and before decoding: random weights a hundred layers deep turn the rounding of
    # float32 into pixels, and what is left is what folding itself does.
    exact = copy.deepcopy(detector).double()
    for raw, found in zip(
        raw_tensors(exact, images), raw_tensors(fold(exact), images), strict=True
    ):
        assert raw.std() > 0
        assert (found - raw).abs().max() <= 1e-9 * raw.abs().max()
    save(folded, tmp_path / "folded.safetensors")
    reloaded = load(tmp_path / "folded.safetensors")
    assert unfolded_norms(reloaded) == []
    for before, after in zip(
        raw_tensors(folded, images), raw_tensors(reloaded, images), strict=True
    ):
        torch.testing.assert_close(after, before, rtol=0, atol=0)


def settle(detector: Detector, images: torch.Tensor) -> None:
    """Give every BatchNorm the statistics of what reaches it, as training does."""
    norms = [each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        detector.model(detector.normalise(images))
    for norm in norms:
        assert norm.running_var is not None
        # Of a single cell the variance is none, and its inverse the rounding's amplifier.
        norm.running_var.clamp_(min=0.1)
        norm.eval()


def test_as_exact_in_float32_as_the_unfolded_network(
    zoo_name: str, small_detector: Callable[..., Detector]
) -> None:
    """To 1e-5 of the largest raw output, with statistics as a trained network has them.

    Of networks that are a hundred layers deep, with random weights, float32 itself is not as exact:
    there the folded one may be twice as far from float64 as the unfolded one is.
    """
    detector = lively(small_detector(zoo_name))
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(
        0, 256, (2, *detector.preprocessing.size_hw, 3), dtype=torch.uint8, generator=generator
    )
    settle(detector, images)
    exact = raw_tensors(copy.deepcopy(detector).double(), images)
    own, folded = raw_tensors(detector, images), raw_tensors(fold(detector), images)
    for wanted, unfolded, found in zip(exact, own, folded, strict=True):
        largest = wanted.abs().max()
        assert wanted.std() > 0
        rounding = (unfolded - wanted).abs().max() / largest
        assert rounding < 2e-4
        assert (found - wanted).abs().max() / largest <= max(1e-5, 2 * rounding)
