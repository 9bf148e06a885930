from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flyweight.models.ops.anchors import AnchorGrid
from flyweight.models.ops.yolo_coder import YOLOCoder

SIZE_HW = (64, 96)
# Two levels of 4 x 6 and 2 x 3 cells: 24 * 2 + 6 * 1 anchors.
GRIDS, STRIDES = ((4, 6), (2, 3)), (16.0, 32.0)
SIZES = (((10.0, 20.0), (30.0, 12.0)), ((60.0, 50.0),))


def make_coder(scale_xy: tuple[float, float] = (1.0, 1.0)) -> YOLOCoder:
    relative = [[(w / SIZE_HW[1], h / SIZE_HW[0]) for w, h in level] for level in SIZES]
    anchors = AnchorGrid(GRIDS, relative, size_hw=SIZE_HW, steps=STRIDES)
    return YOLOCoder(anchors, strides=STRIDES, scale_xy=scale_xy)


@pytest.mark.parametrize("scale_xy", [(1.0, 1.0), (1.2, 1.05)])
def test_zero_offsets_are_the_anchor_in_the_middle_of_its_cell(
    scale_xy: tuple[float, float],
) -> None:
    boxes = make_coder(scale_xy).decode(torch.zeros(1, 54, 4))[0]
    # Row 1, column 2 of the first level, its second anchor; the last cell of the second level.
    torch.testing.assert_close(boxes[(6 + 2) * 2 + 1], torch.tensor([25.0, 18, 55, 30]))
    torch.testing.assert_close(boxes[-1], torch.tensor([50.0, 23, 110, 73]))


def test_offsets_by_hand() -> None:
    offsets = torch.zeros(54, 4)
    # σ is 0.8, 0.2: of the cell from (32, 16) on, 16 pixels a side.
    offsets[17] = torch.tensor([math.log(4), -math.log(4), math.log(2), math.log(0.5)])
    boxes = make_coder().decode(offsets)
    centre = (32 + 0.8 * 16, 16 + 0.2 * 16)
    expected = [centre[0] - 30, centre[1] - 3, centre[0] + 30, centre[1] + 3]
    torch.testing.assert_close(boxes[17], torch.tensor(expected))
    # With a scale of 1.2 the centre goes as much further from the middle of the cell.
    wider = make_coder((1.2, 1.0)).decode(offsets)[17]
    centre = (40 + 1.2 * 0.3 * 16, 24 - 1.2 * 0.3 * 16)
    torch.testing.assert_close(0.5 * (wider[:2] + wider[2:]), torch.tensor(centre))


@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-3, 3), st.floats(-3, 3), st.floats(1.0, 1.5))
def test_encode_is_the_inverse_of_decode(
    tx: float, ty: float, tw: float, th: float, scale: float
) -> None:
    coder = make_coder((scale, 1.0))
    offsets = torch.tensor([tx, ty, tw, th]).expand(54, 4)
    encoded = coder.encode(coder.decode(offsets))
    torch.testing.assert_close(encoded[:, :2], offsets[:, :2].sigmoid(), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoded[:, 2:], offsets[:, 2:], atol=1e-4, rtol=1e-4)


def test_targets_and_boxes_are_finite_whatever_comes() -> None:
    coder = make_coder()
    nothing = coder.encode(torch.zeros(54, 4))
    assert nothing.isfinite().all()
    assert nothing[:, :2].min() >= 0
    boxes = coder.decode(torch.full((54, 4), 1e4))
    torch.testing.assert_close(boxes[-1, 2] - boxes[-1, 0], torch.tensor(62.5 * 60))
