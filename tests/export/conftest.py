"""A detector of a few layers that exports in a second, with weights that do something."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors import Detector
from flyweight.models.detectors.ssd import SSD, SSDConfig, SSDObjective, SSDPostprocess
from flyweight.models.heads.ssd import SSDHead
from flyweight.models.layers import ConvNormAct, SqueezeExcite, relu6
from flyweight.models.matching.max_iou import MaxIoUMatcher
from flyweight.models.ops.anchors import AnchorGrid
from flyweight.models.ops.coder import BoxCoder

SIZE_HW = (64, 96)
SIZES = ((0.2, 0.2), (0.5, 0.4))


class SmallBackbone(nn.Sequential):
    """One level at stride 16."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [super().forward(x)]


def lively(module: nn.Module) -> nn.Module:
    """`module` in evaluation mode with norms and heads as training might have left them."""
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.nn.init.normal_, generator=generator)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            assert each.running_mean is not None
            assert each.running_var is not None
            normal(each.running_mean, 0, 0.3)
            torch.nn.init.uniform_(each.running_var, 0.3, 1.5, generator=generator)
            torch.nn.init.uniform_(each.weight, 0.8, 1.5, generator=generator)
            normal(each.bias, 0, 0.3)
        elif isinstance(each, nn.Conv2d):
            normal(each.weight, 0, (1.2 / each.weight[0].numel()) ** 0.5)
            if each.bias is not None:
                normal(each.bias, 0, 0.5)
    return module.eval()


@pytest.fixture(scope="session")
def make_lively() -> Callable[[nn.Module], nn.Module]:
    """`lively`, for detectors that a test builds itself."""
    return lively


def settled(detector: Detector) -> None:
    """Give every BatchNorm the statistics of what reaches it, and a small factor: through a hundred
    layers of random ones, boxes and scores would overflow to the same value in both runtimes, or
    rounding grow to pixels."""
    norms = [each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    noise = torch.randint(0, 256, (4, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)
    with torch.no_grad():
        detector.model(detector.normalise(noise))
    for norm in norms:
        assert norm.running_var is not None
        norm.running_var.clamp_(min=0.1)
        norm.weight.data.mul_(0.5)
        norm.eval()


@pytest.fixture(scope="session")
def settle_norms() -> Callable[[Detector], None]:
    """`settled`, for detectors that a test builds itself."""
    return settled


@pytest.fixture(scope="session")
def detector() -> Detector:
    """Classes "a" and "b", 48 anchors, input 64 x 96."""
    config = SSDConfig(
        name="small", num_classes=2, backbone="none", size_hw=SIZE_HW, default_boxes=(SIZES,)
    )
    backbone = SmallBackbone(
        ConvNormAct(3, 8, stride=4, act=relu6),
        ConvNormAct(8, 8, stride=2, groups=8),
        SqueezeExcite(8, 4),
        ConvNormAct(8, 16, stride=2, act=nn.Hardswish),
    )
    boxes = AnchorGrid(((4, 6),), (SIZES,), size_hw=SIZE_HW)
    coder = BoxCoder()
    made = Detector(
        config,
        model=SSD(backbone, nn.Identity(), SSDHead([16], [2], num_classes=2)),
        objective=SSDObjective(boxes, coder=coder, matcher=MaxIoUMatcher(0.5)),
        postprocess=SSDPostprocess(boxes, coder=coder),
        class_names=("a", "b"),
        preprocessing=Preprocessing(size_hw=SIZE_HW),
        thresholds=Thresholds(score=0.3, iou=0.5, candidates_per_class=20, max_detections=25),
    )
    return lively(made)  # type: ignore[return-value]


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Three smooth pictures, RGB `[128, 160, 3]`."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
    return list(coarse.repeat(16, axis=1).repeat(16, axis=2))
