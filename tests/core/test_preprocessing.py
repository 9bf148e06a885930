from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

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


@settings(max_examples=200)
@example([(54, 221)])
@given(
    st.lists(st.tuples(st.integers(40, 400), st.integers(40, 400)), min_size=1, max_size=4),
)
def test_a_batch_gets_the_canvas_that_torchvision_gives_it(sizes: list[tuple[int, int]]) -> None:
    """Short side 80, long side at most 133, padded to the largest in multiples of 32."""
    ours = Preprocessing((80, 160), "shortest_side", short_side=80, long_side=133, canvas="batch")
    theirs = GeneralizedRCNNTransform(80, 133, [0.0] * 3, [1.0] * 3, size_divisible=32)
    images, _ = theirs([torch.zeros(3, *size_hw) for size_hw in sizes])
    fitted = ours.for_images(sizes)
    assert fitted.canvas == "fixed"
    contents = [fitted.content_size_hw(size_hw) for size_hw in sizes]
    # torchvision rounds down, in float32: 800 / 480 of 480 pixels are 799 there
    for mine, other in zip(contents, images.image_sizes, strict=True):
        assert 0 <= mine[0] - other[0] <= 1
        assert 0 <= mine[1] - other[1] <= 1
    at_a_border = any(side % 32 == 1 for content in contents for side in content)
    if not at_a_border:
        assert fitted.size_hw == tuple(images.tensors.shape[-2:])


@pytest.mark.parametrize(
    ("size_hw", "canvas_hw", "content_hw"),
    [
        ((480, 640), (800, 1088), (800, 1067)),
        ((640, 480), (1088, 800), (1067, 800)),
        ((400, 1000), (544, 1344), (533, 1333)),
    ],
)
def test_a_picture_alone_has_its_own_canvas(
    size_hw: tuple[int, int], canvas_hw: tuple[int, int], content_hw: tuple[int, int]
) -> None:
    ours = Preprocessing(
        (800, 1344), "shortest_side", short_side=800, long_side=1333, canvas="batch"
    )
    canvas, matrix = ours.apply(np.zeros((*size_hw, 3), np.uint8))
    assert canvas.shape == (*canvas_hw, 3)
    np.testing.assert_allclose(
        matrix, [[content_hw[1] / size_hw[1], 0, 0], [0, content_hw[0] / size_hw[0], 0]]
    )
    assert (canvas[content_hw[0] :] == 114).all()
    assert (canvas[: content_hw[0], : content_hw[1]] == 0).all()
    assert Preprocessing.from_dict(ours.to_dict()) == ours


def test_only_the_shortest_side_knows_sides_and_canvases() -> None:
    with pytest.raises(ValueError, match="knows no sides"):
        Preprocessing((64, 64), "letterbox", canvas="batch")
    with pytest.raises(ValueError, match="canvas is"):
        Preprocessing((64, 64), "shortest_side", canvas="large")  # type: ignore[arg-type]
