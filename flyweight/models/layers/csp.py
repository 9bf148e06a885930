"""A cross stage partial stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, mish
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.darknet_residual import DarknetResidual


class CSPStage(nn.Module):
    """Half of the stage's input passes the residual blocks, the other half goes around them.

    CSPNet, https://arxiv.org/abs/1911.11929, section 3.1, as CSPDarknet-53 of YOLOv4
    (https://arxiv.org/abs/2004.10934) builds it: the halves are not slices but two 1×1
    convolutions of the whole input, `route` (around) and `entry` (into `blocks`); `transition`
    follows the blocks and `merge` the concatenation. Parts stand in the order of Darknet's cfg;
    the concatenation has the transition's channels first.

    With R channels a part, M in the middle of each of the n blocks, and H·W pixels:
        parameters = 2·C_in·R + 10·n·R·M + R² + 2·R·C_out + 2·(3·R + n·(M + R) + C_out)
        MACs       = (2·C_in·R + 10·n·R·M + R² + 2·R·C_out) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        part_channels: int,
        bottleneck_channels: int,
        depth: int,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = mish,
    ) -> None:
        super().__init__()
        part = part_channels
        self.route = ConvNormAct(in_channels, part, kernel_size=1, norm=norm, act=act)
        self.entry = ConvNormAct(in_channels, part, kernel_size=1, norm=norm, act=act)
        self.blocks = nn.Sequential(
            *(
                DarknetResidual(part, bottleneck_channels=bottleneck_channels, norm=norm, act=act)
                for _ in range(depth)
            )
        )
        self.transition = ConvNormAct(part, part, kernel_size=1, norm=norm, act=act)
        self.merge = ConvNormAct(2 * part, out_channels, kernel_size=1, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        around = self.route(x)
        through = self.transition(self.blocks(self.entry(x)))
        merged: Tensor = self.merge(torch.cat((through, around), dim=1))
        return merged
