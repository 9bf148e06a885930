from __future__ import annotations

import colorsys

import numpy as np
import pytest

from flyweight.transforms.hsv import HsvDistortion, HsvParameters


@pytest.mark.parametrize(
    "parameters",
    [HsvParameters(0.1, 1, 1), HsvParameters(-0.1, 1.4, 0.7), HsvParameters(0, 0.67, 1.5)],
)
def test_pixels_are_those_of_the_standard_library(parameters: HsvParameters) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    changed = parameters.apply(image)
    errors = []
    for before, after in zip(image.reshape(-1, 3), changed.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        expected = colorsys.hsv_to_rgb(
            (hue + round(parameters.turn * 256) / 256) % 1,
            min(saturation * parameters.saturation, 1),
            min(value * parameters.value, 1),
        )
        errors.append(np.abs(np.array(expected) * 255 - after))
    # 256 hues and 256 saturations are all there are.
    assert np.mean(errors) < 1.0
    assert np.max(errors) < 8


def test_no_change_is_none_to_the_eye() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    difference = np.abs(HsvParameters(0, 1, 1).apply(image).astype(int) - image)
    assert difference.max() <= 8
    assert difference.mean() < 1


def test_draws_are_darknets() -> None:
    rng = np.random.default_rng(0)
    drawn = [HsvDistortion().draw(rng) for _ in range(2000)]
    turns = np.array([each.turn for each in drawn])
    assert np.abs(turns).max() <= 0.1
    assert abs(turns.mean()) < 0.005
    for name in ("saturation", "value"):
        factors = np.array([getattr(each, name) for each in drawn])
        assert factors.min() >= 1 / 1.5
        assert factors.max() <= 1.5
        assert abs((factors > 1).mean() - 0.5) < 0.04
        # Uniform from 1 to 1.5 above.
        assert abs(factors[factors > 1].mean() - 1.25) < 0.02
        assert abs((1 / factors[factors < 1]).mean() - 1.25) < 0.02
