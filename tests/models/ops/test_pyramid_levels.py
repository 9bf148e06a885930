"""The FPN formula against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops.poolers import LevelMapper

from flyweight.models.ops.pyramid_levels import fpn_level


@pytest.mark.parametrize(("k0", "canonical", "k_min", "k_max"), [(4, 224, 2, 5), (3, 100, 3, 7)])
def test_levels_are_torchvisions(k0: int, canonical: int, k_min: int, k_max: int) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2000, 2, generator=generator) * 100
    boxes = torch.cat((corner, corner + 2 ** (11 * torch.rand(2000, 2, generator=generator))), 1)
    mapper = LevelMapper(k_min, k_max, canonical, k0)
    level = fpn_level(boxes, k0=k0, canonical=canonical, k_min=k_min, k_max=k_max)
    assert torch.equal(level - k_min, mapper([boxes]))
    assert len(level.unique()) == k_max - k_min + 1


@pytest.mark.parametrize(
    ("side", "level"), [(112, 3), (111.9, 2), (224, 4), (447.9, 4), (448, 5), (5000, 5), (1, 2)]
)
def test_hand_worked(side: float, level: int) -> None:
    box = torch.tensor([[[10.0, 20.0, 10.0 + side, 20.0 + side]]])
    assert fpn_level(box, k_min=2, k_max=5).tolist() == [[level]]


def test_boxes_without_area_are_on_the_finest_level() -> None:
    assert fpn_level(torch.zeros(3, 4), k_min=3, k_max=7).tolist() == [3, 3, 3]
