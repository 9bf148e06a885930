from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flyweight.core.manifest import Manifest, Thresholds
from flyweight.core.preprocessing import Preprocessing

MODES = ("stretch", "letterbox", "shortest_side")


def test_stretch_equals_torch_interpolate() -> None:
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    ours, _ = Preprocessing((320, 320)).apply(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    theirs = torch.nn.functional.interpolate(
        tensor, (320, 320), mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    assert np.abs(ours - theirs.numpy()).max() <= 1


@pytest.mark.parametrize("mode", MODES)
@given(height=st.integers(8, 300), width=st.integers(8, 300))
def test_boxes_come_back(mode: str, height: int, width: int) -> None:
    preprocessing = Preprocessing((64, 96), resize=mode)  # type: ignore[arg-type]
    image = np.zeros((height, width, 3), np.uint8)
    canvas, matrix = preprocessing.apply(image)
    assert canvas.shape == (64, 96, 3)
    box = np.array([[1, 2, width - 2, height - 1]], np.float32)
    moved = box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    back = preprocessing.invert_boxes(
        moved.reshape(1, 4).astype(np.float32), matrix, (height, width)
    )
    np.testing.assert_allclose(back, box, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size_hw", [(40, 200), (200, 40), (50, 50), (400, 700)])
def test_a_painted_box_lies_where_the_matrix_says(mode: str, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    image = np.zeros((height, width, 3), np.uint8)
    box = np.array([width // 4, height // 4, width * 3 // 4, height * 3 // 4])
    image[box[1] : box[3], box[0] : box[2]] = 255
    preprocessing = Preprocessing((96, 128), resize=mode, pad_value=0)  # type: ignore[arg-type]
    canvas, matrix = preprocessing.apply(image)
    rows, columns = np.nonzero(canvas[..., 0] > 127)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = (box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]).ravel()
    np.testing.assert_allclose(seen, expected, atol=1.01)


def test_letterbox_pads_around_the_centre() -> None:
    canvas, _ = Preprocessing((100, 100), resize="letterbox").apply(
        np.full((50, 100, 3), 7, np.uint8)
    )
    assert (canvas[:25] == 114).all()
    assert (canvas[25:75] == 7).all()
    assert (canvas[75:] == 114).all()


@pytest.mark.parametrize("mode", MODES)
def test_dict_round_trip(mode: str) -> None:
    preprocessing = Preprocessing((12, 34), resize=mode, mean=(0.1, 0.2, 0.3))  # type: ignore[arg-type]
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


def test_manifest_round_trip() -> None:
    manifest = Manifest(
        model={"name": "ssdlite320_mobilenet_v2", "width": 0.5},
        class_names=("Straße", "card"),
        preprocessing=Preprocessing((64, 64)),
        lineage={"code": "Apache-2.0"},
        thresholds=Thresholds(iou=0.4),
    )
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match="stretch"):
        Preprocessing(resize="squash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        Preprocessing(std=(0.0, 1.0, 1.0))
