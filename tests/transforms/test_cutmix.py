from __future__ import annotations

import numpy as np

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.cutmix import CutMix, cut_rectangle
from flyweight.transforms.pictures import Picture
from flyweight.transforms.pipeline import TrainTransform


def test_the_rectangle_has_the_area_of_equation_two() -> None:
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        whole = 0
        for _ in range(200):
            found = cut_rectangle((200, 300), share, rng)
            assert found is not None
            left, top, right, bottom = found
            assert 0 <= left < right <= 300
            assert 0 <= top < bottom <= 200
            if left > 0 and top > 0 and right < 300 and bottom < 200:
                whole += 1
                area = (right - left) * (bottom - top) / (200 * 300)
                assert abs(area - (1 - share)) < 0.01
        # Of sides r times those of the picture, (1 - r)^2 lie wholly inside.
        assert abs(whole / 200 - (1 - np.sqrt(1 - share)) ** 2) < 0.12
    assert cut_rectangle((200, 300), 1.0, rng) is None


def test_pixels_and_boxes_come_from_where_they_were() -> None:
    """Both pictures are one gradient: wherever the cut is, no pixel is out of place."""
    rows, columns = np.mgrid[:60, :80]
    gradient = np.stack([rows * 4, columns * 3, np.zeros_like(rows)], axis=2).astype(np.uint8)
    below = gradient + np.array([0, 0, 10], np.uint8)
    above = gradient + np.array([0, 0, 20], np.uint8)
    box = np.array([[10, 20, 50, 50]], np.float32)
    transform = TrainTransform(Preprocessing((60, 80)), composition=CutMix(p=1.0))
    seen = set()
    for seed in range(40):
        image, boxes, labels = transform(
            below,
            box,
            np.array([0]),
            size_hw=(60, 80),
            rng=np.random.default_rng(seed),
            others=[Picture(above, box, np.array([1]), (60, 80))],
        )
        np.testing.assert_array_equal(image[..., :2], gradient[..., :2])
        for number, level in ((0, 10), (1, 20)):
            inside = np.zeros((60, 80), bool)
            inside[20:50, 10:50] = True
            shown = inside & (image[..., 2] == level)
            expected = []
            if shown.any():
                y, x = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
                expected = [[x[0], y[0], x[-1] + 1, y[-1] + 1]]
            assert boxes[labels == number].tolist() == expected
        seen.add(tuple(labels.tolist()))
    assert seen >= {(0,), (1,), (0, 1)}
