"""Effective receptive fields: of networks whose field is known, and of squares of energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flyweight.models.detectors.zoo import build
from flyweight.profiling.effective_field import effective_receptive_fields, side_with_share


def test_even_energy() -> None:
    """Of 100×100 pixels the middle 60×60 hold 36 %, the middle 90×90 81 %."""
    energy = np.full((100, 100), 1e-4)
    assert side_with_share(energy, (50, 50), share=0.36) == 60
    assert side_with_share(energy, (50, 50), share=0.81) == 90
    assert side_with_share(energy, (50, 50), share=1.0) == 100


def test_a_single_pixel_and_a_corner() -> None:
    energy = np.zeros((64, 64))
    energy[20, 20] = 1.0
    assert side_with_share(energy, (20.5, 20.5)) == 1
    # From 20.5 to the border of the pixel at 40.
    energy[40, 20] = 1.0
    assert side_with_share(energy, (20.5, 20.5)) == 41


def test_a_gaussian_holds_its_share_within_its_quantile() -> None:
    """In both directions at once: √0.95 of a normal distribution is within 2.236 deviations."""
    places = np.arange(400) + 0.5 - 200
    across = np.exp(-((places / 20) ** 2) / 2)
    energy = np.outer(across, across)
    assert side_with_share(energy / energy.sum(), (200, 200)) == pytest.approx(
        2 * 2.236 * 20, abs=2
    )


def test_levels_see_less_than_in_theory() -> None:
    """Luo et al. 2016, figure 1: random weights use the middle of the field only."""
    torch.manual_seed(0)
    detector = build("ssdlite320_mobilenet_v2", classes=["card"], size=256, width=0.25)
    before = {name: each.clone() for name, each in detector.state_dict().items()}
    fields = effective_receptive_fields(detector, images=1)
    assert [each.stride for each in fields] == [16, 32, 64, 128, 256, 512]
    finest = fields[0]
    assert finest.theoretical == 299
    assert finest.side < 200
    assert finest.centre_xy == (136, 136)
    assert finest.energy.shape == (256, 256)
    assert finest.energy.sum() == pytest.approx(1)
    assert all(torch.equal(before[name], each) for name, each in detector.state_dict().items())


def test_the_gradient_stays_within_the_theoretical_field() -> None:
    detector = build("ssd300_vgg16", classes=["card"], width=0.125)
    finest = effective_receptive_fields(detector, images=1)[0]
    assert finest.theoretical == 92 + 16  # conv4_3 and the head's 3×3 at stride 8
    rows, columns = np.nonzero(finest.energy)
    x, y = finest.centre_xy
    # Centres of cells and of fields differ by less than a stride.
    assert max(abs(columns + 0.5 - x).max(), abs(rows + 0.5 - y).max()) <= 108 / 2 + 8
    assert max(np.ptp(rows), np.ptp(columns)) < 108
