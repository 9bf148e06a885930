"""Features of regions against torchvision's poolers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_pool

from flyweight.models.ops.pyramid_levels import fpn_level
from flyweight.models.ops.roi import image_rois, multi_scale_roi_align

STRIDES = (4, 8, 16, 32)
SIZE = 512


def pyramid(images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(images, 3, SIZE // stride, SIZE // stride, generator=generator)
        for stride in STRIDES
    ]


def regions(count: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 300
    size = 2 ** (3 + 7 * torch.rand(count, 2, generator=generator))
    return torch.cat((corner, corner + size), dim=1)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_features_and_gradients_are_torchvisions(static: bool, sampling_ratio: int) -> None:
    rois = [regions(40, seed=1), regions(25, seed=2)]
    assert len(fpn_level(torch.cat(rois), k_min=2, k_max=5).unique()) == len(STRIDES)
    mine = [each.requires_grad_() for each in pyramid()]
    theirs = [each.requires_grad_() for each in pyramid()]
    pooled = multi_scale_roi_align(
        mine, rois, STRIDES, sampling_ratio=sampling_ratio, static=static
    )
    oracle = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio)
    expected = oracle(
        {str(index): each for index, each in enumerate(theirs)}, rois, [(SIZE, SIZE)] * 2
    )
    torch.testing.assert_close(pooled, expected)
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(3))
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close([each.grad for each in mine], [each.grad for each in theirs])


def test_one_level_takes_every_region() -> None:
    rois = [regions(10, seed=1), regions(5, seed=2)]
    pooled = multi_scale_roi_align(pyramid()[2:3], rois, STRIDES[2:3], size=3)
    oracle = MultiScaleRoIAlign(["0"], 3, 2)
    assert torch.equal(pooled, oracle({"0": pyramid()[2]}, rois, [(SIZE, SIZE)] * 2))


def test_the_ancestor_pools_the_maximum() -> None:
    rois = image_rois([regions(10, seed=1), regions(5, seed=2)])
    pooled = multi_scale_roi_align(pyramid()[2:3], rois, STRIDES[2:3], kind="pool")
    assert torch.equal(pooled, roi_pool(pyramid()[2], rois, (7, 7), 1 / 16))
    several = multi_scale_roi_align(pyramid(), rois, STRIDES, kind="pool")
    level = fpn_level(rois[:, 1:], k_min=2, k_max=5) - 2
    for index, feature in enumerate(pyramid()):
        expected = roi_pool(feature, rois, (7, 7), 1 / STRIDES[index])
        assert torch.equal(several[level == index], expected[level == index])


def test_three_ways_to_hand_regions_over_are_one() -> None:
    boxes = torch.stack([regions(6, seed=1), regions(6, seed=2)])
    rois = image_rois(boxes)
    assert torch.equal(rois, image_rois(list(boxes)))
    assert rois[:, 0].tolist() == [0.0] * 6 + [1.0] * 6
    assert torch.equal(rois[:, 1:], boxes.flatten(0, 1))
    pooled = multi_scale_roi_align(pyramid(), rois, STRIDES)
    assert torch.equal(pooled, multi_scale_roi_align(pyramid(), boxes, STRIDES))
    assert torch.equal(pooled, multi_scale_roi_align(pyramid(), list(boxes), STRIDES))


@pytest.mark.parametrize("static", [True, False])
def test_no_regions(static: bool) -> None:
    pooled = multi_scale_roi_align(pyramid(), torch.zeros(0, 5), STRIDES, static=static)
    assert pooled.shape == (0, 3, 7, 7)


def test_half_precision_features_keep_their_type_and_the_boxes_their_place() -> None:
    rois = image_rois([regions(10, seed=1)])
    features = [each.bfloat16() for each in pyramid(1)]
    pooled = multi_scale_roi_align(features, rois, STRIDES)
    assert pooled.dtype == torch.bfloat16
    expected = multi_scale_roi_align([each.float() for each in features], rois, STRIDES)
    torch.testing.assert_close(pooled, expected.bfloat16())


def test_levels_and_strides_must_agree() -> None:
    with pytest.raises(ValueError, match="4 levels"):
        multi_scale_roi_align(pyramid(), torch.zeros(0, 5), STRIDES[:3])
