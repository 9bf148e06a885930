"""Padding of a batch's objects."""

from __future__ import annotations

import torch

from flyweight.models.detectors.targets import Targets


def test_images_of_different_counts() -> None:
    targets = Targets.from_lists(
        [torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), torch.zeros(0, 4)],
        [torch.tensor([2, 0]), torch.zeros(0, dtype=torch.int64)],
    )
    assert targets.boxes_xyxy.shape == (2, 2, 4)
    assert targets.labels.tolist() == [[2, 0], [-1, -1]]
    assert targets.valid.tolist() == [[True, True], [False, False]]
    assert len(targets) == 2
    assert targets.to("meta").labels.device.type == "meta"


def test_no_objects_at_all() -> None:
    targets = Targets.from_lists([torch.zeros(0, 4)] * 3, [torch.zeros(0, dtype=torch.int64)] * 3)
    assert targets.boxes_xyxy.shape == (3, 0, 4)
    assert targets.labels.dtype == torch.int64
