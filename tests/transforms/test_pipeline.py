from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyweight.core.errors import InputError
from flyweight.core.image import read_image, write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms import build_transform
from flyweight.transforms.crops import RandomIoUCrop
from flyweight.transforms.geometry import GeometricStep, RandomExpand, RandomFlip
from flyweight.transforms.photometric import PhotometricDistortion
from flyweight.transforms.pipeline import TrainTransform
from flyweight.transforms.presets import TRANSFORMS

BACKGROUND = (128, 128, 128)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
MODES = ("stretch", "letterbox", "shortest_side")
STEPS: dict[str, tuple[GeometricStep, ...]] = {
    "expand": (RandomExpand(p=1),),
    "crop": (RandomIoUCrop(iou_options=(0.0, 0.3, 1.0)),),
    "flip": (RandomFlip(p=1),),
    "all": (RandomExpand(p=1), RandomIoUCrop(), RandomFlip()),
}


def draw_scene(seed: int, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectangles apart from each other, each label in its own colour."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    image = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    boxes, labels = [], []
    for label in rng.permutation(len(COLOURS))[: rng.integers(0, len(COLOURS) + 1)]:
        # One cell of a grid of 3 x 2 for each label, two pixels of background around it.
        left, top = (label % 3) * width // 3 + 2, (label // 3) * height // 2 + 2
        right, bottom = (label % 3 + 1) * width // 3 - 2, (label // 3 + 1) * height // 2 - 2
        x = np.sort(rng.choice(np.arange(left, right + 1), 2, replace=False))
        y = np.sort(rng.choice(np.arange(top, bottom + 1), 2, replace=False))
        image[y[0] : y[1], x[0] : x[1]] = COLOURS[label]
        boxes.append((x[0], y[0], x[1], y[1]))
        labels.append(label)
    return (
        image,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
    )


def assert_boxes_fit(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, tolerance: float = 1.5
) -> None:
    """Each box is the extent of its label's colour in the image."""
    assert boxes.shape == (len(labels), 4)
    assert boxes.dtype == np.float32
    assert labels.dtype == np.int64
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= image.shape[1::-1]).all()
    palette = np.array([BACKGROUND, (123, 117, 104), (114, 114, 114), *COLOURS], dtype=np.int64)
    nearest = np.abs(image[:, :, None].astype(np.int64) - palette).sum(axis=-1).argmin(axis=-1) - 3
    for box, label in zip(boxes, labels, strict=True):
        if min(box[2:] - box[:2]) < 4:
            continue  # mixed with the background all over
        rows, columns = np.nonzero(nearest == label)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(seen, box, atol=tolerance)


def transform_of(name: str, mode: str, size_hw: tuple[int, int] = (96, 120)) -> TrainTransform:
    return build_transform(name, Preprocessing(size_hw, resize=mode))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*TRANSFORMS, *STEPS])
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    size_hw=st.tuples(st.integers(40, 240), st.integers(40, 240)),
)
def test_rectangles_are_where_the_boxes_say(
    name: str, mode: str, seed: int, size_hw: tuple[int, int]
) -> None:
    picture, boxes, labels = draw_scene(seed, size_hw)
    transform = transform_of(name if name in TRANSFORMS else "none", mode)
    if name in STEPS:
        transform = replace(transform, steps=STEPS[name])
    if transform.distortion is not None:
        # Colours tell the labels here, so they stay.
        transform = replace(transform, distortion=PhotometricDistortion(p=0))
    image, out_boxes, out_labels = transform(
        picture, boxes, labels, size_hw=size_hw, rng=np.random.default_rng(seed)
    )
    assert image.shape == (96, 120, 3)
    assert image.dtype == np.uint8
    assert set(out_labels) <= set(labels)
    assert_boxes_fit(image, out_boxes, out_labels)


@pytest.mark.parametrize("name", ["none", "expand", "flip"])
def test_no_object_is_lost_without_a_crop(name: str) -> None:
    for seed in range(20):
        picture, boxes, labels = draw_scene(seed, (200, 260))
        transform = replace(transform_of("none", "stretch"), steps=STEPS.get(name, ()))
        _, _, out_labels = transform(
            picture, boxes, labels, size_hw=(200, 260), rng=np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(out_labels, labels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size_hw", [(480, 640), (100, 50), (96, 120), (33, 700)])
def test_none_is_the_preprocessing_itself(
    mode: str, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    boxes = np.array([[1, 2, 30, 31]], dtype=np.float32)
    write_image(tmp_path / "picture.jpg", picture)
    preprocessing = Preprocessing((96, 120), resize=mode)  # type: ignore[arg-type]
    transform = build_transform("none", preprocessing)
    for source in (picture, tmp_path / "picture.jpg"):
        image, out_boxes, _ = transform(
            source, boxes, np.array([0]), size_hw=size_hw, rng=np.random.default_rng(0)
        )
        read = source
        if isinstance(read, Path):
            read = read_image(read, min_size_hw=preprocessing.content_size_hw(size_hw))
        expected, _ = preprocessing.apply(read)
        np.testing.assert_array_equal(image, expected)
        matrix = preprocessing.matrix(size_hw)
        moved = boxes.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose(out_boxes, moved.reshape(1, 4), atol=1e-3)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_same_seed_gives_the_same_bytes(name: str, bccd_dir: Path) -> None:
    path = sorted((bccd_dir / "JPEGImages").glob("*.jpg"))[0]
    boxes, labels = np.array([[50, 60, 300, 310]], dtype=np.float32), np.array([1])
    transform = build_transform(name, Preprocessing((64, 64)))

    def run(seed: int) -> bytes:
        results = transform(
            path, boxes, labels, size_hw=(480, 640), rng=np.random.default_rng(seed)
        )
        return b"".join(result.tobytes() for result in results)

    runs = [run(seed) for seed in range(12)]
    assert runs == [run(seed) for seed in range(12)]
    assert (len(set(runs)) == 1) == (name == "none")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_picture_without_boxes(name: str) -> None:
    picture = np.zeros((50, 70, 3), np.uint8)
    for seed in range(8):
        image, boxes, labels = build_transform(name, Preprocessing((32, 48)))(
            picture,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            size_hw=(50, 70),
            rng=np.random.default_rng(seed),
        )
        assert image.shape == (32, 48, 3)
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)


def test_boxes_fit_a_file_decoded_at_a_reduced_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flyweight.transforms import pipeline

    widths = []

    def spy(*args: object, **kwargs: object) -> np.ndarray:
        image = read_image(*args, **kwargs)  # type: ignore[arg-type]
        widths.append(image.shape[1])
        return image

    monkeypatch.setattr(pipeline, "read_image", spy)
    size_hw = (481, 643)
    for seed in range(30):
        picture, boxes, labels = draw_scene(seed, size_hw)
        write_image(tmp_path / "scene.jpg", picture)
        transform = replace(transform_of("ssd", "stretch"), distortion=PhotometricDistortion(p=0))
        image, out_boxes, out_labels = transform(
            tmp_path / "scene.jpg", boxes, labels, size_hw=size_hw, rng=np.random.default_rng(seed)
        )
        # Colour in a JPEG has half the resolution of its brightness.
        assert_boxes_fit(image, out_boxes, out_labels, tolerance=2.5)
    assert {643, 322, 161} <= set(widths)


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


def test_an_unknown_name_tells_the_nearest() -> None:
    with pytest.raises(InputError, match="'ssdlite'"):
        build_transform("ssdlight", Preprocessing())
