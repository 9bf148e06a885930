from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.composition import Material
from flyweight.transforms.layers import Layer, paint
from flyweight.transforms.mosaic import Mosaic
from flyweight.transforms.pictures import Picture

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], np.uint8)


def plain_pictures(size_hw: tuple[int, int] = (60, 80)) -> list[Picture]:
    """Four pictures of one colour each, with a box over the whole."""
    box = np.array([[0, 0, size_hw[1], size_hw[0]]], np.float32)
    return [
        Picture(np.tile(colour, (*size_hw, 1)), box, np.array([label]), size_hw)
        for label, colour in enumerate(COLOURS)
    ]


class Deck:
    """The pictures in turn, whatever index is drawn."""

    def __init__(self, pictures: list[Picture]) -> None:
        self.pictures, self.given = pictures, 0

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        self.given += 1
        return self.pictures[(self.given - 1) % len(self.pictures)]


def layers_of(mosaic: Mosaic, seed: int, **options: Any) -> list[Layer]:
    first, *others = plain_pictures(options.pop("picture_hw", (60, 80)))
    preprocessing = Preprocessing(**{"size_hw": (96, 120), **options})
    rng = np.random.default_rng(seed)
    material = Material(first, Deck(others), preprocessing, (), None, rng)
    layers = list(mosaic(material))
    assert all(isinstance(layer, Layer) for layer in layers)
    return layers  # type: ignore[return-value]


def read_nothing(*_: object, **__: object) -> Any:
    raise AssertionError("these pictures are no files")


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_four_pictures_meet_in_one_point(resize: str) -> None:
    points, first_corners = [], set()
    for seed in range(60):
        layers = layers_of(Mosaic(), seed, resize=resize)
        assert len(layers) == 4
        image, _ = paint(layers, read=read_nothing, pad_value=114, decode_factor=1)
        # The windows are the tiles: nothing is left empty, nothing is painted twice.
        corners = np.array([layer.window for layer in layers])
        x, y = np.unique(corners[:, [0, 2]]), np.unique(corners[:, [1, 3]])
        assert x.tolist() == [0, x[1], 120]
        assert y.tolist() == [0, y[1], 96]
        for layer in layers:
            left, top, right, bottom = layer.window
            tile = image[top:bottom, left:right].reshape(-1, 3)
            assert (tile == COLOURS[layer.view.labels[0]]).all()
        points.append((x[1] / 120, y[1] / 96))
        first_corners.add(layers[0].window[:2] == (0, 0))
    low, high = np.min(points), np.max(points)
    assert 0.19 < low < 0.3
    assert 0.7 < high < 0.81
    # The picture whose turn it is may lie in any corner.
    assert first_corners == {True, False}


def test_sizes_are_those_asked_for() -> None:
    """Between half and all of what the preprocessing makes of the picture, and no smaller than
    the tile."""
    factors = []
    for seed in range(60):
        for layer in layers_of(Mosaic(), seed):
            across, down = layer.view.matrix[0, 0] / (120 / 80), layer.view.matrix[1, 1] / (96 / 60)
            assert across == pytest.approx(down)
            left, top, right, bottom = layer.window
            assert across >= max((right - left) / 120, (bottom - top) / 96) - 1e-9
            factors.append(across)
    assert 0.5 <= min(factors) < 0.6
    assert 0.9 < max(factors) <= 1


def test_a_picture_too_small_for_its_tile_touches_the_point() -> None:
    for seed in range(20):
        layers = layers_of(Mosaic(scale_range=(0.1, 0.15)), seed)
        windows = np.array([layer.window for layer in layers])
        sides = np.sort(windows[:, [0, 2]], axis=None), np.sort(windows[:, [1, 3]], axis=None)
        # The point is an end of two pictures and the start of the other two.
        for side in sides:
            assert side[2] == side[3] == side[4] == side[5]
        image, _ = paint(layers, read=read_nothing, pad_value=7, decode_factor=1)
        assert (image == 7).all(axis=2).mean() > 0.9


def test_p_is_how_often_it_is_one() -> None:
    counts = [len(layers_of(Mosaic(p=0.3), seed)) for seed in range(300)]
    assert set(counts) == {1, 4}
    assert 60 < counts.count(4) < 120


def test_an_input_of_one_pixel() -> None:
    layers = layers_of(Mosaic(), 0, size_hw=(1, 1))
    image, _ = paint(layers, read=read_nothing, pad_value=7, decode_factor=1)
    assert image.shape == (1, 1, 3)


@pytest.mark.parametrize("options", [{"centre_range": (0.0, 0.5)}, {"scale_range": (0.0, 1.0)}])
def test_impossible_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="range"):
        Mosaic(**options)
