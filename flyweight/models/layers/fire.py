"""The fire module of SqueezeNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory


class Fire(nn.Module):
    """1×1 `squeeze`, then 1×1 and 3×3 `expand` side by side, concatenated.

    SqueezeNet, https://arxiv.org/abs/1602.07360, section 3.2 and figure 1. The published network
    has biases and no norm.

    With S squeezed and E channels of each half (C_out = 2·E), H·W pixels:
        parameters = C_in·S + 10·S·E + S + 2·E   (biases; or with norm 2·(S + 2·E) in their place)
        MACs       = (C_in·S + 10·S·E) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        *,
        squeeze_channels: int,
        expand_channels: int,
        norm: NormFactory | None = None,
        act: ActFactory = relu,
    ) -> None:
        super().__init__()
        self.squeeze = ConvNormAct(in_channels, squeeze_channels, kernel_size=1, norm=norm, act=act)
        self.expand1x1 = ConvNormAct(
            squeeze_channels, expand_channels, kernel_size=1, norm=norm, act=act
        )
        self.expand3x3 = ConvNormAct(squeeze_channels, expand_channels, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, 2·E, H, W]."""
        squeezed = self.squeeze(x)
        return torch.cat((self.expand1x1(squeezed), self.expand3x3(squeezed)), dim=1)
