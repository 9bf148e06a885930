from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyweight.core.image import read_image, write_image
from flyweight.transforms.geometry import RandomExpand
from flyweight.transforms.mixup import MixUp
from flyweight.transforms.photometric import PhotometricDistortion
from flyweight.transforms.pictures import Picture
from flyweight.transforms.presets import TRANSFORMS
from tests.transforms.coloured_scenes import (
    COMPOSITIONS,
    MODES,
    PER_PICTURE,
    STEPS,
    assert_boxes_fit,
    assert_boxes_hold,
    assert_nothing_is_lost,
    draw_scene,
    run_scene,
    transform_of,
)

# A turned rectangle that a border cuts is smaller than its hull.
TURNED = ("affine", "mosaic of turned")
COVERED = tuple(name for name in COMPOSITIONS if "cut" in name or "erasing" in name)
CROPPING = ("crop", "all", "mosaic of crops", "ssd", "ssdlite", "tiny_data")


@pytest.mark.parametrize("name", [*TRANSFORMS, *STEPS, *COMPOSITIONS])
@settings(deadline=None, max_examples=25)
@given(
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 2**32 - 1),
    picture_hw=st.tuples(st.integers(40, 240), st.integers(40, 240)),
    input_hw=st.sampled_from([(96, 120), (160, 97), (300, 280)]),
)
def test_rectangles_are_where_the_boxes_say(
    name: str, mode: str, seed: int, picture_hw: tuple[int, int], input_hw: tuple[int, int]
) -> None:
    hard = name in TURNED + COVERED
    if hard:
        # Not enlarged: the blunt corners of an enlarged object would hide behind a window.
        picture_hw = (picture_hw[0] + 260, picture_hw[1] + 260)
    transform = transform_of(name, mode, input_hw)
    image, boxes, labels = run_scene(transform, seed, picture_hw, larger=260 * hard)
    if mode != "batch":
        assert image.shape == (*input_hw, 3)
    assert image.dtype == np.uint8
    assert len(set(labels)) == len(labels)
    if hard:
        assert_boxes_hold(image, boxes, labels, hull=name in COVERED)
    else:
        assert_boxes_fit(image, boxes, labels)
    if name not in CROPPING:
        assert_nothing_is_lost(image, labels)


@pytest.mark.parametrize("name", ["none", "flip", "all", "jitter", "mosaic", "cutmix"])
def test_boxes_are_not_off_by_a_part_of_a_pixel(name: str) -> None:
    transform = transform_of(name, "stretch", (320, 320))
    errors = []
    for seed in range(50):
        image, boxes, labels = run_scene(transform, seed, (97, 131))
        errors += assert_boxes_fit(image, boxes, labels)
    assert len(errors) > 60
    # Half a pixel of the picture is 1.2 to 1.6 of the input, half of the input's 0.5.
    np.testing.assert_allclose(np.mean(errors, axis=0), 0, atol=0.1)


@pytest.mark.parametrize("name", ["none", "expand", "flip"])
def test_no_object_is_lost_without_a_crop(name: str) -> None:
    for seed in range(20):
        _, _, labels = run_scene(transform_of(name, "stretch"), seed, (200, 260))
        np.testing.assert_array_equal(labels, draw_scene(seed, (200, 260))[2])


@pytest.mark.parametrize("beta", [None, 1.5])
@pytest.mark.parametrize("mode", MODES)
def test_a_blend_shows_the_objects_of_both(mode: str, beta: float | None) -> None:
    """Red rectangles below blue ones: each channel is a picture of its own."""
    transform = replace(transform_of("jitter", mode, (200, 240)), composition=MixUp(1.0, beta))
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scenes = []
        for channel in (0, 2):
            size_hw = (int(rng.integers(60, 200)), int(rng.integers(60, 200)))
            x, y = (np.sort(rng.choice(length, 2, replace=False)) for length in size_hw[::-1])
            image = np.zeros((*size_hw, 3), np.uint8)
            image[y[0] : y[1], x[0] : x[1], channel] = 255
            box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
            scenes.append(Picture(image, box, np.array([channel]), size_hw))
        first, second = scenes
        # What is not a picture is black, like what is around the rectangles.
        black = replace(transform, preprocessing=replace(transform.preprocessing, pad_value=0))
        image, boxes, labels = black(
            first.source,
            first.boxes_xyxy,
            first.labels,
            size_hw=first.size_hw,
            rng=rng,
            others=[second],
        )
        assert set(labels) <= {0, 2}
        for box, label in zip(boxes, labels, strict=True):
            if min(box[2:] - box[:2]) < 4:
                continue
            level = image[..., label]
            seen = level > level.max() / 2
            assert level.max() > 0
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            np.testing.assert_allclose(edges, box, atol=1.5)
            found += 1
        assert image[..., 1].max() == 0
    assert found > 50


@pytest.mark.parametrize("name", ["ssd", "yolov4"])
def test_boxes_fit_files_decoded_at_a_reduced_scale(name: str, tmp_path: Path) -> None:
    widths = []

    def spy(source: object, /, *, min_size_hw: tuple[int, int] | None) -> np.ndarray:
        image = read_image(source, min_size_hw=min_size_hw)  # type: ignore[arg-type]
        widths.append(image.shape[1])
        return image

    size_hw = (481, 643)
    transform = replace(transform_of(name, "stretch"), read=spy)
    for seed in range(10):
        pictures = []
        for number in range(4):
            scene, boxes, labels = draw_scene(seed + 100 * number, size_hw, number * PER_PICTURE)
            path = tmp_path / f"scene{number}.jpg"
            write_image(path, scene)
            pictures.append(Picture(path, boxes, labels, size_hw))
        first, *others = pictures
        rng = np.random.default_rng(seed)
        image, out_boxes, out_labels = transform(
            first.source, first.boxes_xyxy, first.labels, size_hw=size_hw, rng=rng, others=others
        )
        if len(set(out_labels)) == len(out_labels):
            # Colour in a JPEG has half the resolution of its brightness.
            assert_boxes_fit(image, out_boxes, out_labels, tolerance=2.5)
    assert {322, 161} <= set(widths)


def test_the_array_given_is_neither_changed_nor_returned() -> None:
    picture = draw_scene(3, (96, 120))[0]
    before = picture.copy()
    for name in TRANSFORMS:
        for seed in range(10):
            image, _, _ = transform_of(name, "stretch")(
                picture,
                np.array([[10, 10, 80, 80]]),
                np.array([0]),
                size_hw=(96, 120),
                rng=np.random.default_rng(seed),
            )
            assert not np.shares_memory(image, picture)
    np.testing.assert_array_equal(picture, before)


def test_distortion_leaves_the_fill_of_the_canvas() -> None:
    picture = np.full((60, 60, 3), 200, np.uint8)
    transform = replace(
        transform_of("ssd", "letterbox"),
        steps=(RandomExpand(p=1, side_range=(2, 2)),),
        distortion=PhotometricDistortion(brightness=(0.5, 0.5), p=1),
    )
    image, boxes, _ = transform(
        picture,
        np.array([[0, 0, 60, 60]]),
        np.array([0]),
        size_hw=(60, 60),
        rng=np.random.default_rng(0),
    )
    left, top, right, bottom = boxes[0].astype(int)
    assert (image[top:bottom, left:right] != 200).all()
    outside = np.ones(image.shape[:2], dtype=bool)
    outside[top:bottom, left:right] = False
    assert {tuple(colour) for colour in image[outside].tolist()} == {(123, 117, 104), (114,) * 3}
    # A square canvas on 96 x 120: twelve columns of padding on either side.
    assert (image[:, :12] == 114).all()
    assert (image[:, 108:] == 114).all()
