from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from flyweight.transforms.photometric import (
    PhotometricDistortion,
    PhotometricParameters,
    distort,
    turn_hue,
)

NOTHING = PhotometricParameters()


def picture(seed: int = 0) -> np.ndarray:
    """Smooth, colourful, with dark and bright parts."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.clip(cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC), 0, 255)


def by_torchvision(image: np.ndarray, parameters: PhotometricParameters) -> np.ndarray:
    channels = parameters.channels
    drawn = {
        "brightness_factor": parameters.brightness,
        "contrast_factor": parameters.contrast,
        "saturation_factor": parameters.saturation,
        "hue_factor": parameters.hue,
        "contrast_before": parameters.contrast_first,
        "channel_permutation": None if channels is None else torch.tensor(channels),
    }
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    return v2.RandomPhotometricDistort().transform(tensor, drawn).permute(1, 2, 0).numpy()


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


# torchvision rounds down after each step, our one pass rounds to the nearest.
@pytest.mark.parametrize(
    "parameters",
    [
        NOTHING,
        replace(NOTHING, brightness=0.875),
        replace(NOTHING, brightness=1.125),
        replace(NOTHING, contrast=0.5),
        replace(NOTHING, contrast=1.5, contrast_first=False),
        replace(NOTHING, saturation=0.5),
        replace(NOTHING, saturation=1.5),
        replace(NOTHING, channels=(2, 0, 1)),
        replace(NOTHING, brightness=1.125, contrast=0.5),
        replace(NOTHING, contrast=1.5, saturation=1.5, channels=(1, 0, 2)),
        replace(NOTHING, brightness=0.9, contrast=0.6, saturation=1.4, contrast_first=False),
    ],
    ids=str,
)
def test_affine_steps_equal_torchvision_to_three_levels(parameters: PhotometricParameters) -> None:
    image = picture()
    assert difference(distort(image, parameters), by_torchvision(image, parameters)).max() <= 3


@pytest.mark.parametrize("turn", [-0.05, -0.013, 0.0, 0.031, 0.05])
def test_hue_is_close_to_torchvision(turn: float) -> None:
    # 256 hues to the circle: at full saturation one is 6 levels of the middle channel, and both
    # the pixel's hue and the turn are rounded; then there is the rounding of the other two.
    image = picture(1)
    off = difference(turn_hue(image, turn), by_torchvision(image, replace(NOTHING, hue=turn)))
    assert off.mean() < 1.5
    assert off.max() <= 12


def test_drawn_distortions_are_close_to_torchvision() -> None:
    rng = np.random.default_rng(2)
    image = picture(2)
    offs = []
    for _ in range(40):
        parameters = PhotometricDistortion().draw(rng)
        off = difference(distort(image, parameters), by_torchvision(image, parameters))
        offs.append(off.mean())
        assert off.max() <= 20
    assert np.mean(offs) < 1.5


def test_the_image_given_is_not_changed() -> None:
    image = picture(3)
    before = image.copy()
    rng = np.random.default_rng(3)
    for _ in range(30):
        distort(image, PhotometricDistortion().draw(rng))
    np.testing.assert_array_equal(image, before)


def test_each_step_is_drawn_half_of_the_time_within_its_range() -> None:
    rng = np.random.default_rng(4)
    drawn = [PhotometricDistortion().draw(rng) for _ in range(1000)]
    for name, low, high in (
        ("brightness", 0.875, 1.125),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -0.05, 0.05),
    ):
        values = np.array([v for d in drawn if (v := getattr(d, name)) is not None])
        assert 420 < len(values) < 580
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    permutations = [d.channels for d in drawn if d.channels is not None]
    assert 420 < len(permutations) < 580
    assert len(set(permutations)) == 6
    assert 420 < sum(d.contrast_first for d in drawn) < 580
