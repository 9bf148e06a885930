from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from flyweight.training.ema import MovingAverage, ramped_decay


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def drift(model: nn.Sequential) -> None:
    """Move the weights, and the statistics through a forward pass."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
    model(torch.randn(2, 3, 8, 8))


def test_average_of_weights_and_statistics_in_float64() -> None:
    model = small_model()
    ema = MovingAverage(model, decay=0.5)
    expected: dict[str, np.ndarray] = {}
    for update in range(1, 8):
        drift(model)
        ema.update(model)
        decay = min(0.5, (1 + update) / (10 + update)) if update > 1 else 0.0
        for name, value in model.state_dict().items():
            current = value.double().numpy()
            old = expected.get(name, current)
            expected[name] = decay * old + (1 - decay) * current
    for name, value in ema.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 7
        else:
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_ramp() -> None:
    assert ramped_decay(0, 0.998) == pytest.approx(0.1)
    assert ramped_decay(90, 0.998) == pytest.approx(0.91)
    assert ramped_decay(100_000, 0.998) == 0.998


def test_without_decay_it_is_the_model() -> None:
    model = small_model()
    ema = MovingAverage(model, decay=0.0)
    for _ in range(3):
        drift(model)
        ema.update(model)
    for ours, theirs in zip(ema.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_state_round_trip_goes_on_alike() -> None:
    model = small_model()
    whole = MovingAverage(model, decay=0.9)
    half = MovingAverage(model, decay=0.9)
    for update in range(20):
        drift(model)
        whole.update(model)
        if update == 10:
            half.load_state_dict(whole.state_dict())
        if update > 10:
            half.update(model)
    for ours, theirs in zip(half.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_is_evaluated_and_never_trained() -> None:
    ema = MovingAverage(small_model().train(), decay=0.9)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
