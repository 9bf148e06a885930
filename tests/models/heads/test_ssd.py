"""SSDlite's head: its size, and how it starts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssdlite import SSDLiteHead as TorchvisionHead

from flyweight.models.heads.initialisation import initialise_head, set_background_prior
from flyweight.models.heads.ssd import SSDHead, make_predictor


def test_parameters_are_torchvisions() -> None:
    theirs = TorchvisionHead([672, 480, 128], [6, 6, 4], 21, partial(nn.BatchNorm2d))
    ours = SSDHead([672, 480, 128], [6, 6, 4], num_classes=20)
    shapes = [sorted(tuple(p.shape) for p in head.parameters()) for head in (theirs, ours)]
    assert shapes[0] == shapes[1]


def test_shapes_and_branches() -> None:
    head = SSDHead([8, 16], [2, 3], num_classes=4).eval()
    deltas, logits = head([torch.randn(2, 8, 3, 5), torch.randn(2, 16, 1, 2)])
    assert deltas.shape == (2, 3 * 5 * 2 + 2 * 3, 4)
    assert logits.shape == (2, 3 * 5 * 2 + 2 * 3, 5)


def test_without_norm_every_convolution_has_a_bias() -> None:
    head = SSDHead([8], [2], num_classes=4, predictor=make_predictor("separable", norm=None))
    convolutions = [each for each in head.modules() if isinstance(each, nn.Conv2d)]
    assert len(convolutions) == 4
    assert all(each.bias is not None for each in convolutions)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in head.modules())


def test_initialisation() -> None:
    torch.manual_seed(0)
    head = SSDHead([256], [6], num_classes=20)
    initialise_head(head)
    output = head.classification.levels[0].get_submodule("output")
    assert isinstance(output, nn.Conv2d)
    assert output.weight.std().item() == pytest.approx(0.03, rel=0.05)
    assert output.bias is not None
    assert not output.bias.any()


@pytest.mark.parametrize("prior", [0.5, 0.99])
def test_background_prior_is_the_untrained_probability(prior: float) -> None:
    head = SSDHead([8], [2], num_classes=4).eval()
    initialise_head(head)
    set_background_prior(head.classification, prior)
    _, logits = head([torch.zeros(1, 8, 2, 2)])
    background = logits.softmax(-1)[..., 0]
    torch.testing.assert_close(background, torch.full_like(background, prior))
    with pytest.raises(ValueError, match="between 0 and 1"):
        set_background_prior(head.classification, 1.0)
