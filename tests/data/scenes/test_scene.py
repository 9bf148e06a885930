from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flyweight.core.errors import InputError
from flyweight.data.formats import open_dataset
from flyweight.data.scenes import draw_scene, save_scenes
from flyweight.data.scenes.camera import clip_polygon, project, rotation, translation
from flyweight.data.scenes.cards import bank_card, bank_card_back
from flyweight.data.scenes.effects import region_of
from flyweight.data.scenes.identity_cards import identity_card
from flyweight.data.scenes.objects import DISTRACTORS
from flyweight.data.scenes.paint import fill_polygon, rounded_outline
from flyweight.data.scenes.surfaces import SURFACES


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    image, boxes = draw_scene((4, 2))
    again, same_boxes = draw_scene((4, 2))
    assert image.tobytes() == again.tobytes()
    assert boxes.tobytes() == same_boxes.tobytes()
    assert not np.array_equal(image, draw_scene((4, 3))[0])


@pytest.mark.parametrize("size_hw", [(320, 320), (96, 160), (200, 120)])
def test_boxes_lie_in_the_image_and_are_no_slivers(size_hw: tuple[int, int]) -> None:
    for seed in range(8):
        image, boxes = draw_scene(seed, size_hw)
        assert image.shape == (*size_hw, 3)
        assert image.dtype == np.uint8
        assert boxes.dtype == np.float32
        assert boxes.shape[1:] == (4,)
        assert (boxes >= 0).all()
        assert (boxes <= (size_hw[1], size_hw[0]) * 2).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 6).all()


def test_scenes_have_zero_to_four_cards() -> None:
    counts = np.bincount([len(draw_scene((1, k), (128, 128))[1]) for k in range(120)], minlength=5)
    assert (counts > 0).all()
    assert len(counts) == 5


def extent(mask: np.ndarray, pixels: int) -> np.ndarray:
    """`xyxy [4]` of the rows and columns of `mask [H, W]` with at least so many pixels."""
    rows = np.flatnonzero(mask.sum(axis=1) >= pixels)
    columns = np.flatnonzero(mask.sum(axis=0) >= pixels)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_a_card_shows_where_its_box_says(monkeypatch: pytest.MonkeyPatch) -> None:
    # Cards painted in a colour that nothing else has, no effects: the picture itself is the oracle.
    from flyweight.data.scenes import scene, table
    from flyweight.data.scenes.paint import FlatObject, flat, rounded_object

    def magenta(rng: np.random.Generator, width: int) -> FlatObject:
        face = flat((round(width / 1.586), width), (255, 0, 255))
        return rounded_object(face, 0.04 * width, length=1, thickness=0, side=(0, 0, 0))

    def untouched(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        return image

    def grey(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
        return flat(size_hw, (90, 90, 90))

    monkeypatch.setattr(table, "draw_card", magenta)
    monkeypatch.setattr(table, "add_glare", untouched)
    monkeypatch.setattr(table, "place_distractor", lambda *_: None)
    monkeypatch.setattr(scene, "place_distractor", lambda *_: None)
    monkeypatch.setattr(scene, "draw_surface", grey)
    for name in ("light_scene", "blur_scene", "add_sensor_noise"):
        monkeypatch.setattr(scene, name, untouched)
    monkeypatch.setattr(scene, "compress_scene", lambda image, quality: image)
    seen = 0
    for seed in range(60):
        image, boxes = draw_scene(seed, (256, 256))
        if len(boxes) != 1:
            continue
        seen += 1
        # Shadows darken the card and keep its hue; half a pixel at the border is grey.
        red, green = image[..., 0].astype(int), image[..., 1].astype(int)
        card = red > 3 * green
        # Slivers beside a finger may count or not: the box lies between both readings.
        outer, inner = extent(card, 1), extent(card, 6)
        low, high = np.minimum(outer, inner), np.maximum(outer, inner)
        assert (boxes[0] >= low - 2.6).all(), (seed, boxes[0], outer, inner)
        assert (boxes[0] <= high + 2.6).all(), (seed, boxes[0], outer, inner)
    assert seen > 10


def test_save_writes_a_coco_folder_that_opens(tmp_path: Path) -> None:
    done: list[int] = []
    out = save_scenes(
        tmp_path / "s", train=5, val=3, test=0, seed=9, size_hw=(96, 128), progress=done.append
    )
    assert done == list(range(1, 9))
    train, val = open_dataset(out, "train"), open_dataset(out, "val")
    assert (len(train), len(val)) == (5, 3)
    assert not (out / "images" / "test").exists()
    assert train.class_names == ("card",)
    for index, record in enumerate(train.records):
        image, boxes = draw_scene((9, 0, index), (96, 128))
        assert record.size_hw == (96, 128)
        np.testing.assert_allclose(record.boxes_xyxy, boxes, atol=0.02)
        written = cv2.imread(str(record.path))
        assert written is not None
        assert np.abs(written[..., ::-1].astype(int) - image).mean() < 12
    assert all(
        record.boxes_xyxy.tobytes() != other.boxes_xyxy.tobytes() or len(record) == 0
        for record in train.records
        for other in val.records
    )


def test_save_is_the_same_again_and_with_processes(tmp_path: Path) -> None:
    one = save_scenes(tmp_path / "a", train=3, val=1, test=1, size_hw=(64, 64))
    two = save_scenes(tmp_path / "b", train=3, val=1, test=1, size_hw=(64, 64), workers=2)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 8
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_annotations_are_valid_coco(tmp_path: Path) -> None:
    out = save_scenes(tmp_path / "s", train=6, val=0, test=0, size_hw=(96, 96))
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "card"}]
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    for annotation in content["annotations"]:
        assert annotation["area"] == pytest.approx(
            annotation["bbox"][2] * annotation["bbox"][3], abs=0.01
        )


@pytest.mark.parametrize("bad", [{"train": -1}, {"size_hw": (8, 8)}])
def test_impossible_requests_are_input_errors(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        save_scenes(tmp_path / "s", **bad)  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("painter", [identity_card, bank_card, bank_card_back])
@pytest.mark.parametrize("width", [90, 333])
def test_card_faces_at_any_size(painter: object, width: int) -> None:
    for seed in range(6):
        face = painter(np.random.default_rng(seed), width)  # type: ignore[operator]
        assert face.shape == (round(width / 1.5857), width, 3)
        assert face.std() > 5


@pytest.mark.parametrize("painter", [painter for painter, _ in DISTRACTORS])
def test_distractors_are_not_cards(painter: object) -> None:
    for seed in range(4):
        thing = painter(np.random.default_rng(seed), 120)  # type: ignore[operator]
        assert not thing.is_card
        assert max(thing.rgb.shape[:2]) == 120
        assert thing.rgb.flags.c_contiguous
        limits = thing.rgb.shape[1], thing.rgb.shape[0]
        assert (thing.outline >= -1e-3).all()
        assert (thing.outline <= np.array(limits) + 1e-3).all()
        hull = cv2.convexHull(thing.outline)
        assert cv2.contourArea(hull) == pytest.approx(cv2.contourArea(thing.outline), rel=1e-4)


@pytest.mark.parametrize("painter", [painter for painter, _ in SURFACES])
def test_surfaces_fill_any_size(painter: object) -> None:
    for size_hw in ((64, 64), (131, 90)):
        image = painter(np.random.default_rng(1), size_hw)  # type: ignore[operator]
        assert image.shape == (*size_hw, 3)
        assert image.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(
    middle=arrays(np.float64, 2, elements=st.floats(-30, 130)),
    wh=arrays(np.float64, 2, elements=st.floats(8, 120)),
    angle=st.floats(0, 6.28),
)
def test_clipping_a_polygon_equals_opencv(middle: np.ndarray, wh: np.ndarray, angle: float) -> None:
    outline = rounded_outline((float(wh[1]), float(wh[0])), 3.0)
    matrix = translation(*middle) @ rotation(angle) @ translation(-wh[0] / 2, -wh[1] / 2)
    outline = project(outline, matrix)
    inside = clip_polygon(outline, (100, 100))
    frame = np.array([(0, 0), (100, 0), (100, 100), (0, 100)], np.float32)
    expected, _ = cv2.intersectConvexConvex(outline, frame)
    area = float(cv2.contourArea(inside)) if len(inside) >= 3 else 0.0
    assert area == pytest.approx(expected, abs=0.5)
    if len(inside):
        assert (inside >= -1e-3).all()
        assert (inside <= 100 + 1e-3).all()


@pytest.mark.parametrize("line_type", [cv2.LINE_AA, cv2.LINE_8])
def test_filling_a_polygon_covers_its_area(line_type: int) -> None:
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(40):
        width, height = rng.uniform(10, 60, 2)
        turned = translation(*rng.uniform(50, 51, 2)) @ rotation(float(rng.uniform(0, 6)))
        outline = project(
            rounded_outline((height, width), 3.0), turned @ translation(-width / 2, -height / 2)
        )
        canvas = np.zeros((100, 100), np.uint8)
        fill_polygon(canvas, outline, 255, line_type=line_type)
        error = canvas.sum() / 255 - cv2.contourArea(outline)
        excess.append(error / cv2.arcLength(outline, True))
    # In pixels by which the border lies too far out.
    assert abs(float(np.mean(excess))) < 0.06


def test_region_is_cut_at_the_borders() -> None:
    outline = np.array([(-5.0, 3.2), (7.6, 3.2), (7.6, 9.0)], np.float32)
    assert region_of(outline, 1, (8, 20)) == (0, 2, 9, 8)
