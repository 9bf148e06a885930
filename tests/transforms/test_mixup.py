from __future__ import annotations

import numpy as np

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.composition import Whole
from flyweight.transforms.mixup import MixUp
from flyweight.transforms.pictures import Picture
from flyweight.transforms.pipeline import TrainTransform


def grey(level: int, size_hw: tuple[int, int], label: int) -> Picture:
    box = np.array([[0, 0, size_hw[1], size_hw[0]]], np.float32)
    pixels = np.full((*size_hw, 3), level, np.uint8)
    return Picture(pixels, box, np.array([label]), size_hw)


def mixed(
    mix: MixUp, seed: int, preprocessing: Preprocessing, second_hw: tuple[int, int] = (30, 40)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = grey(200, (30, 40), 3), grey(100, second_hw, 5)
    return TrainTransform(preprocessing, composition=mix)(
        first.source,
        first.boxes_xyxy,
        first.labels,
        size_hw=first.size_hw,
        rng=np.random.default_rng(seed),
        others=[second],
    )


def test_half_and_half() -> None:
    image, boxes, labels = mixed(MixUp(1.0, beta=None), 0, Preprocessing((30, 40)))
    assert (image == 150).all()
    assert boxes.tolist() == [[0, 0, 40, 30]] * 2
    assert labels.tolist() == [3, 5]


def test_shares_follow_the_beta_distribution() -> None:
    levels = np.array(
        [mixed(MixUp(1.0), seed, Preprocessing((30, 40)))[0][0, 0, 0] for seed in range(400)]
    )
    shares = (levels - 100) / 100
    # Beta(1.5, 1.5): mean 1/2, variance 1 / (4 (2 * 1.5 + 1)) = 1/16
    assert abs(shares.mean() - 0.5) < 0.04
    assert abs(shares.var() - 1 / 16) < 0.012


def test_p_is_how_often_two_are_blended() -> None:
    counts = [len(mixed(MixUp(0.25), seed, Preprocessing((30, 40)))[2]) for seed in range(300)]
    assert 50 < counts.count(2) < 100


def test_pictures_of_their_own_size_share_a_canvas_of_both() -> None:
    preprocessing = Preprocessing((64, 64), resize="shortest_side", canvas="batch", pad_value=0)
    image, boxes, _ = mixed(MixUp(1.0, beta=None, inner=Whole()), 0, preprocessing, (40, 30))
    assert image.shape == (64, 64, 3)
    # 30 x 40 becomes 48 x 64, 40 x 30 becomes 64 x 48, both from the upper left corner.
    assert boxes.tolist() == [[0, 0, 64, 48], [0, 0, 48, 64]]
    assert image[20, 20, 0] == 150
    assert image[20, 60, 0] == 100
    assert image[60, 20, 0] == 50
    assert image[60, 60, 0] == 0
