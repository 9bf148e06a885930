"""What backbones and necks publish about their feature levels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureInfo:
    """One feature level: a [B, channels, H / stride, W / stride] tensor (sizes rounded up).

    Names follow the papers: `C1` to `C5` are the outputs of a backbone's last block at strides 2
    to 32; `C4_expanded` is the expansion output of the block that leaves stride 16 (what SSDlite
    reads); `C5_first` is what the first block of C5's stage gives, which torchvision's MobileNetV3
    detectors read; `final` is the last convolution before a classifier's pooling, if there is one.
    A pyramid's levels are `P2` to `P7`, at strides 4 to 128.
    """

    name: str
    channels: int
    stride: int
