"""The layout of dense heads, against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssd import SSDScoringHead

from flyweight.models.heads.dense import DenseHead, by_anchor


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layout_is_torchvisions(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    columns, boxes = 5, (4, 6)
    predictors = [nn.Conv2d(8, count * columns, 3, padding=1) for count in boxes]
    features = [torch.randn(2, 8, 4, 3), torch.randn(2, 8, 2, 2)]
    features = [each.to(memory_format=memory_format) for each in features]
    expected = SSDScoringHead(nn.ModuleList(predictors), columns)(features)
    outputs = DenseHead(predictors, columns=columns)(features)
    assert outputs.shape == (2, 4 * 3 * 4 + 2 * 2 * 6, columns)
    torch.testing.assert_close(outputs, expected)


def test_no_copy_of_channels_last_memory() -> None:
    output = torch.randn(2, 12, 4, 3).to(memory_format=torch.channels_last)
    assert by_anchor(output, 4).data_ptr() == output.data_ptr()
