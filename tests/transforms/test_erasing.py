from __future__ import annotations

import numpy as np

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.composition import Composition
from flyweight.transforms.erasing import Cutout, RandomErasing
from flyweight.transforms.pipeline import TrainTransform


def erased(composition: Composition, seed: int, min_visible: float = 0.0) -> tuple[np.ndarray, int]:
    """Which pixels of a white picture are hidden, `[60, 80]`, and how many of two boxes are left:
    the whole picture, and a small one in its middle."""
    image, boxes, _ = TrainTransform(
        Preprocessing((60, 80)), composition=composition, min_visible=min_visible
    )(
        np.full((60, 80, 3), 255, np.uint8),
        np.array([[0, 0, 80, 60], [38, 28, 42, 32]], np.float32),
        np.array([0, 1]),
        size_hw=(60, 80),
        rng=np.random.default_rng(seed),
    )
    return (image != 255).any(axis=2), len(boxes)


def sides_of(hidden: np.ndarray) -> tuple[int, int]:
    """Height and width of what is hidden, which is a rectangle."""
    height, width = int(hidden.any(axis=1).sum()), int(hidden.any(axis=0).sum())
    assert hidden.sum() == height * width
    return height, width


def test_erasing_draws_area_and_aspect() -> None:
    erasing = RandomErasing(p=1.0, fill=(0, 0, 0))
    shapes = np.array([sides_of(erased(erasing, seed)[0]) for seed in range(300)], np.float64)
    areas, aspects = shapes.prod(axis=1) / (60 * 80), shapes[:, 0] / shapes[:, 1]
    assert 0.01 < areas.min() < 0.04
    assert 0.36 < areas.max() < 0.42
    assert abs(areas.mean() - 0.21) < 0.03
    # Even on a log scale: as often upright as lying.
    assert abs((aspects > 1).mean() - 0.5) < 0.1
    assert aspects.min() > 0.25
    assert aspects.max() < 4


def test_erasing_paints_noise() -> None:
    image, _, _ = TrainTransform(
        Preprocessing((60, 80)), composition=RandomErasing(p=1.0, area_range=(0.3, 0.3))
    )(
        np.full((60, 80, 3), 255, np.uint8),
        np.zeros((0, 4)),
        np.zeros(0, np.int64),
        size_hw=(60, 80),
        rng=np.random.default_rng(0),
    )
    hidden = image[(image != 255).any(axis=2)]
    assert len(np.unique(hidden)) > 200


def test_cutout_is_a_square_that_may_lie_partly_outside() -> None:
    shapes = [sides_of(erased(Cutout(p=1.0, side=0.5), seed)[0]) for seed in range(100)]
    assert max(shapes) == (30, 30)
    assert {height for height, _ in shapes} != {30}
    assert all(15 <= height <= 30 and 15 <= width <= 30 for height, width in shapes)


def test_hidden_objects_lose_their_boxes() -> None:
    lost = 0
    for seed in range(60):
        hidden, left = erased(Cutout(p=1.0, side=0.6), seed, min_visible=0.5)
        covered = hidden[28:32, 38:42].mean()
        assert left == (1 if covered > 0.5 else 2)
        lost += covered > 0.5
    assert 5 < lost < 55


def test_p_is_how_often_something_is_hidden() -> None:
    hidden = [erased(Cutout(p=0.2), seed)[0].any() for seed in range(200)]
    assert 22 < sum(hidden) < 60
