"""Default boxes against torchvision's generator."""

from __future__ import annotations

import pytest
import torch
from torchvision import ops
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from flyweight.data.default_boxes import published_default_boxes
from flyweight.models.ops.anchors import AnchorGrid, tile_level


@pytest.mark.parametrize("size_hw", [(320, 320), (300, 300), (200, 416), (97, 65)])
@pytest.mark.parametrize("ratios", [[[2, 3]] * 6, [[2], [2, 3], [2, 3], [2, 3], [2], [2]]])
def test_boxes_are_torchvisions(size_hw: tuple[int, int], ratios: list[list[int]]) -> None:
    grids = [(-(-size_hw[0] // s), -(-size_hw[1] // s)) for s in (16, 32, 64, 128, 256, 512)]
    generator = DefaultBoxGenerator(ratios, min_ratio=0.2, max_ratio=0.95)
    features = [torch.zeros(1, 1, *grid) for grid in grids]
    expected = generator(ImageList(torch.zeros(1, 3, *size_hw), [size_hw]), features)[0]
    ours = AnchorGrid(grids, published_default_boxes(ratios), size_hw=size_hw)
    torch.testing.assert_close(ours.boxes_xyxy, expected, rtol=0, atol=1e-4)
    centres = ops.box_convert(expected, "xyxy", "cxcywh")
    torch.testing.assert_close(ours.boxes_cxcywh, centres, rtol=0, atol=1e-3)
    assert ours.boxes_per_level == tuple(generator.num_anchors_per_location())
    assert len(ours) == len(expected)


def test_order_is_cells_row_major_with_boxes_innermost() -> None:
    boxes = tile_level((2, 3), [(0.1, 0.2), (0.3, 0.4)]).float()
    assert boxes.shape == (12, 4)
    torch.testing.assert_close(boxes[0], torch.tensor([1 / 6, 0.25, 0.1, 0.2]))
    torch.testing.assert_close(boxes[1], torch.tensor([1 / 6, 0.25, 0.3, 0.4]))
    torch.testing.assert_close(boxes[2], torch.tensor([3 / 6, 0.25, 0.1, 0.2]))
    torch.testing.assert_close(boxes[6], torch.tensor([1 / 6, 0.75, 0.1, 0.2]))


def test_anchors_are_not_in_the_state_dict_but_move_with_the_module() -> None:
    boxes = AnchorGrid([(2, 2)], [[(0.5, 0.5)]], size_hw=(64, 64))
    assert boxes.state_dict() == {}
    assert boxes.to("meta").boxes_xyxy.device.type == "meta"


def test_levels_and_grids_must_agree() -> None:
    with pytest.raises(ValueError, match="2 levels"):
        AnchorGrid([(2, 2), (1, 1)], [[(0.5, 0.5)]], size_hw=(64, 64))
