from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from flyweight.core.boxes import box_iou
from flyweight.transforms.crops import RandomIoUCrop
from flyweight.transforms.geometry import View

SIZE_HW = (120, 160)


def random_boxes(seed: int, count: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    corners = np.random.default_rng(seed).random((count, 2, 2)) * size_hw[::-1]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)


def holds_centre(boxes: np.ndarray, crop: tuple[int, ...]) -> np.ndarray:
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    return (crop[0] < x) & (x < crop[2]) & (crop[1] < y) & (y < crop[3])


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    st.tuples(st.integers(16, 300), st.integers(16, 300)),
)
def test_a_crop_keeps_the_promises(
    seed: int, count: int, least_iou: float, size_hw: tuple[int, int]
) -> None:
    boxes = random_boxes(seed, count, size_hw)
    step = RandomIoUCrop(iou_options=(least_iou, 1.0))
    crop = step.sample(boxes, size_hw, rng=np.random.default_rng(seed))
    if crop is None:
        return
    left, top, right, bottom = crop
    width, height = right - left, bottom - top
    assert 0 <= left < right <= size_hw[1]
    assert 0 <= top < bottom <= size_hw[0]
    assert width > 0.3 * size_hw[1] - 1
    assert height > 0.3 * size_hw[0] - 1
    assert 0.5 <= width / height <= 2
    inside = boxes[holds_centre(boxes, crop)]
    assert len(inside)
    assert box_iou(np.array([crop], dtype=np.float64), inside).max() >= least_iou - 1e-9


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(16, 300), st.integers(16, 300))
def test_no_crop_exceeds_the_bound_of_its_iou(seed: int, height: int, width: int) -> None:
    boxes = random_boxes(seed, 8, (height, width))
    step = RandomIoUCrop(trials=400)
    crops = list(step._draw_crops((height, width), np.random.default_rng(seed)))
    highest = box_iou(np.array(crops, np.float64).reshape(-1, 4), boxes).max(axis=0, initial=0)
    bounds = [step._iou_bound(box, (height, width)) for box in boxes.tolist()]
    assert (highest <= np.array(bounds) + 1e-9).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_stay_when_their_centre_does(seed: int) -> None:
    boxes = random_boxes(seed, 6)
    view = View.of_picture(SIZE_HW, boxes, np.arange(6))
    seen = RandomIoUCrop(iou_options=(0.0, 1.0))(view, np.random.default_rng(seed))
    shift = -seen.matrix[:2, 2]
    crop = (*shift, shift[0] + seen.size_hw[1], shift[1] + seen.size_hw[0])
    np.testing.assert_array_equal(seen.labels, np.flatnonzero(holds_centre(boxes, crop)))
    np.testing.assert_array_equal(seen.boxes_xyxy, boxes[seen.labels])


def test_a_picture_without_boxes_stays_whole() -> None:
    view = View.of_picture(SIZE_HW, np.zeros((0, 4)), np.zeros(0, np.int64))
    assert RandomIoUCrop()(view, np.random.default_rng(0)) is view


def test_the_search_must_be_able_to_end() -> None:
    with pytest.raises(ValueError, match="iou_options"):
        RandomIoUCrop(iou_options=(0.5,))


def test_crops_are_distributed_as_those_of_torchvision() -> None:
    boxes = np.array([[20, 20, 60, 70], [70, 30, 150, 110], [5, 90, 25, 110]], dtype=np.float64)
    target = tv_tensors.BoundingBoxes(
        torch.from_numpy(boxes),
        format=tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=SIZE_HW,
    )
    image = tv_tensors.Image(torch.zeros(3, *SIZE_HW, dtype=torch.uint8))
    torch.manual_seed(0)
    theirs = []
    for _ in range(300):
        drawn = v2.RandomIoUCrop().make_params([image, target])
        whole = (0, 0, SIZE_HW[1], SIZE_HW[0])
        theirs.append(
            (drawn["left"], drawn["top"], drawn["width"], drawn["height"]) if drawn else whole
        )
    rng = np.random.default_rng(0)
    ours = []
    for _ in range(3000):
        crop = RandomIoUCrop().sample(boxes, SIZE_HW, rng=rng) or (0, 0, SIZE_HW[1], SIZE_HW[0])
        ours.append((crop[0], crop[1], crop[2] - crop[0], crop[3] - crop[1]))
    a, b = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
    # Four standard errors of the difference; the last column is the share left whole.
    a, b = (np.c_[x, x[:, 2] * x[:, 3], x[:, 2] == SIZE_HW[1]] for x in (a, b))
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error).all()


def test_regions_of_nothing_stay_and_ask_for_nothing() -> None:
    """A crowd (label below 0) draws no crop, and what a crop shows of it is still one."""
    region, small = [0.0, 0, 160, 120], [100.0, 70, 110, 80]
    step = RandomIoUCrop(iou_options=(0.0, 1.0))
    alone = View.of_picture(SIZE_HW, np.array([region]), np.array([-2]))
    both = View.of_picture(SIZE_HW, np.array([region, small]), np.array([-2, 1]))
    cropped = 0
    for seed in range(20):
        assert step(alone, np.random.default_rng(seed)) is alone
        view = step(both, np.random.default_rng(seed))
        assert view.labels.tolist() == [-2, 1]
        cropped += view.size_hw != SIZE_HW
    assert cropped > 3
