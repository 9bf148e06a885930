from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyweight.core.errors import InputError
from flyweight.core.image import read_image, write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms import build_transform
from flyweight.transforms.composition import Composition
from flyweight.transforms.crops import RandomIoUCrop
from flyweight.transforms.cutmix import CutMix
from flyweight.transforms.erasing import Cutout, RandomErasing
from flyweight.transforms.geometry import (
    GeometricStep,
    RandomAffine,
    RandomExpand,
    RandomFlip,
    RandomJitter,
)
from flyweight.transforms.mixup import MixUp
from flyweight.transforms.mosaic import Mosaic
from flyweight.transforms.photometric import PhotometricDistortion
from flyweight.transforms.pictures import Picture
from flyweight.transforms.pipeline import TrainTransform
from flyweight.transforms.presets import TRANSFORMS

BACKGROUND = (128, 128, 128)
# Pure hues: what an edge mixes of one and a grey is like no other.
COLOURS = [
    tuple(round(255 * level) for level in colorsys.hsv_to_rgb(hue / 24, 1, 1)) for hue in range(24)
]
# As many pictures as one sample takes, five, have all colours apart.
PER_PICTURE = 4
MODES = ("stretch", "letterbox", "shortest_side", "batch")
GREY = (100, 100, 100)
FLIP = (RandomFlip(),)
STEPS: dict[str, tuple[GeometricStep, ...]] = {
    "expand": (RandomExpand(p=1),),
    "crop": (RandomIoUCrop(iou_options=(0.0, 0.3, 1.0)),),
    "flip": (RandomFlip(p=1),),
    "jitter": (RandomJitter(),),
    "affine": (RandomAffine(degrees=8, shear_degrees=4, scale_range=(0.4, 1.0)),),
    "all": (RandomJitter(), RandomExpand(p=1), RandomIoUCrop(), RandomFlip()),
}
COMPOSITIONS: dict[str, Composition] = {
    "mosaic": Mosaic(),
    "mosaic of jittered": Mosaic(scale_range=(0.3, 1.5), steps=(RandomJitter(), *FLIP)),
    "mosaic of crops": Mosaic(steps=(RandomExpand(), RandomIoUCrop(), *FLIP)),
    "mosaic of turned": Mosaic(steps=(RandomAffine(degrees=6),)),
    "cutmix": CutMix(p=1),
    "cutmix of mosaics": CutMix(p=1, inner=Mosaic(p=0.5, steps=FLIP)),
    "cutout": Cutout(p=1, count=2, fill=GREY),
    "erasing": RandomErasing(p=1, fill=GREY),
    "erasing of cutmix of mosaics": RandomErasing(
        p=1, count=3, area_range=(0.02, 0.2), fill=GREY, inner=CutMix(p=1, inner=Mosaic())
    ),
}
# A turned rectangle that a border cuts is smaller than its hull.
TURNED = ("affine", "mosaic of turned")
COVERED = tuple(name for name in COMPOSITIONS if "cut" in name or "erasing" in name)
CROPPING = ("crop", "all", "mosaic of crops", "ssd", "ssdlite", "tiny_data")


def draw_scene(
    seed: int, size_hw: tuple[int, int], first_label: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectangles apart from each other, four labels at most from `first_label` on, each in its
    own colour."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    image = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    boxes, labels = [], []
    for cell in rng.permutation(PER_PICTURE)[: rng.integers(0, PER_PICTURE + 1)]:
        # One cell of a grid of 2 x 2 for each label, two pixels of background around it.
        left, top = (cell % 2) * width // 2 + 2, (cell // 2) * height // 2 + 2
        right, bottom = (cell % 2 + 1) * width // 2 - 2, (cell // 2 + 1) * height // 2 - 2
        x = np.sort(rng.choice(np.arange(left, right + 1), 2, replace=False))
        y = np.sort(rng.choice(np.arange(top, bottom + 1), 2, replace=False))
        image[y[0] : y[1], x[0] : x[1]] = COLOURS[first_label + cell]
        boxes.append((x[0], y[0], x[1], y[1]))
        labels.append(first_label + cell)
    return (
        image,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
    )


class Scenes:
    """Other pictures: whatever index is asked for, the next scene in colours not yet used."""

    def __init__(self, seed: int, *, larger: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.sides = (40 + larger, 240 + larger)
        self.next_label = PER_PICTURE

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Picture:
        assert 0 <= index < 7
        size_hw = (int(self.rng.integers(*self.sides)), int(self.rng.integers(*self.sides)))
        label = self.next_label % len(COLOURS)
        self.next_label += PER_PICTURE
        return Picture(*draw_scene(int(self.rng.integers(1 << 30)), size_hw, label), size_hw)


def extents(
    image: np.ndarray, *, least: int = 128, without_lines: bool = False
) -> dict[int, np.ndarray]:
    """`xyxy` of each label's colour in the image: pixels that have its hue, and half of their
    light (`least` of 255) in it, so that an edge is where a grey and the colour are mixed in equal
    parts. `without_lines` sees nothing that is only one pixel wide."""
    red, green, blue = cv2.split(image)
    chroma = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 0].astype(np.float32)
    label = np.rint(hue * (len(COLOURS) / 256)).astype(np.int64) % len(COLOURS)
    label[chroma < least] = -1
    found = {}
    for each in np.flatnonzero(np.bincount(label.ravel() + 1)[1:]).tolist():
        seen = label == each
        if without_lines:
            square = seen[1:, 1:] & seen[1:, :-1] & seen[:-1, 1:] & seen[:-1, :-1]
            seen = np.zeros_like(seen)
            for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
                seen[down : down + len(square), across : across + square.shape[1]] |= square
            if not seen.any():
                continue
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        found[each] = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return found


def assert_boxes_fit(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    tolerance: float = 1.5,
) -> list[np.ndarray]:
    """Each box is the extent of its label's colour in the image; how far its middle is off."""
    assert boxes.shape == (len(labels), 4)
    assert boxes.dtype == np.float32
    assert labels.dtype == np.int64
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= image.shape[1::-1]).all()
    errors = []
    found = extents(image)
    for box, label in zip(boxes, labels, strict=True):
        if min(box[2:] - box[:2]) < 4:
            continue  # mixed with the background all over
        seen = found[label]
        np.testing.assert_allclose(seen, box, atol=tolerance)
        errors.append(seen.reshape(2, 2).mean(axis=0) - box.reshape(2, 2).mean(axis=0))
    return errors


def assert_boxes_hold(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, *, hull: bool
) -> None:
    """Boxes hold what is seen of their objects, and for a `hull` touch it on each side.

    Lines a pixel wide that are left beside a window may belong to the box or not.
    """
    solid, all_of_it = extents(image, without_lines=True), extents(image, least=100)
    for box, label in zip(boxes, labels, strict=True):
        if min(box[2:] - box[:2]) < 4:
            continue
        if label in solid:
            assert (solid[label][:2] >= box[:2] - 1.5).all()
            assert (solid[label][2:] <= box[2:] + 1.5).all()
        if hull:
            assert (all_of_it[label][:2] <= box[:2] + 1.5).all()
            assert (all_of_it[label][2:] >= box[2:] - 1.5).all()


def assert_nothing_is_lost(image: np.ndarray, labels: np.ndarray) -> None:
    """Of what is seen as four pixels or more along both axes there is a box."""
    for label, seen in extents(image, without_lines=True).items():
        if min(seen[2:] - seen[:2]) >= 4:
            assert label in labels


def preprocessing_of(mode: str, size_hw: tuple[int, int] = (96, 120)) -> Preprocessing:
    if mode == "batch":
        return Preprocessing(size_hw, resize="shortest_side", canvas="batch")
    return Preprocessing(size_hw, resize=mode)  # type: ignore[arg-type]


def transform_of(name: str, mode: str, size_hw: tuple[int, int] = (96, 120)) -> TrainTransform:
    """A preset, or the plain resize with one of `STEPS` or `COMPOSITIONS`; colours stay, and no
    box is dropped for being mostly hidden."""
    preset = build_transform(
        name if name in TRANSFORMS else "none", preprocessing_of(mode, size_hw)
    )
    plain = replace(preset, distortion=None, min_visible=0.0)
    if isinstance(plain.composition, MixUp):
        plain = replace(plain, composition=plain.composition.inner)
    if name in STEPS:
        return replace(plain, steps=STEPS[name])
    if name in COMPOSITIONS:
        return replace(plain, composition=COMPOSITIONS[name])
    return plain


def run_scene(
    transform: TrainTransform, seed: int, size_hw: tuple[int, int], *, larger: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    picture, boxes, labels = draw_scene(seed, size_hw)
    rng = np.random.default_rng(seed)
    return transform(
        picture, boxes, labels, size_hw=size_hw, rng=rng, others=Scenes(seed, larger=larger)
    )


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


@pytest.mark.parametrize("name", ["yolov4", "yolox", "tiny_data"])
def test_slivers_are_dropped(name: str) -> None:
    """Boxes are a tenth of the whole object at least where a preset asks for it."""
    preset = transform_of(name, "stretch", (320, 320))
    kept, dropped = 0, 0
    for seed in range(30):
        _, _, all_labels = run_scene(preset, seed, (200, 260))
        _, _, labels = run_scene(replace(preset, min_visible=0.1), seed, (200, 260))
        assert set(labels) <= set(all_labels)
        kept, dropped = kept + len(labels), dropped + len(all_labels) - len(labels)
    assert 0 < dropped < kept / 4


@pytest.mark.parametrize("mode", MODES[:3])
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


def test_an_unknown_name_tells_the_nearest() -> None:
    with pytest.raises(InputError, match="'ssdlite'"):
        build_transform("ssdlight", Preprocessing())
