"""The two residual blocks of ResNet."""

from __future__ import annotations

from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory


def _shortcut(
    in_channels: int, out_channels: int, *, stride: int, norm: NormFactory | None
) -> nn.Module:
    """Option B of the paper: a 1×1 projection only where the shapes differ."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ConvNormAct(in_channels, out_channels, kernel_size=1, stride=stride, norm=norm, act=None)


class BasicBlock(nn.Module):
    """3×3, 3×3, and the shortcut: act(conv2(conv1(x)) + shortcut(x)).

    Deep Residual Learning, https://arxiv.org/abs/1512.03385, figure 5 (left); ResNet-18 and 34.

    With H·W output pixels, and P = 1 where the shortcut projects, else 0:
        parameters = 9·C_in·C_out + 9·C_out² + 4·C_out + P·(C_in·C_out + 2·C_out)
        MACs       = (9·C_in·C_out + 9·C_out² + P·C_in·C_out) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, stride=stride, norm=norm, act=act)
        self.conv2 = ConvNormAct(out_channels, out_channels, norm=norm, act=None)
        self.shortcut = _shortcut(in_channels, out_channels, stride=stride, norm=norm)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H·stride, W·stride] -> [B, C_out, H, W]."""
        out: Tensor = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1×1 to M channels, 3×3, 1×1 to C_out, and the shortcut.

    Deep Residual Learning, https://arxiv.org/abs/1512.03385, figure 5 (right); ResNet-50 and 101.
    The stride is on the 3×3 as in torchvision ("ResNet 1.5"): the paper's place, the first 1×1,
    drops three quarters of the pixels unread.

    With h·w input and H·W output pixels, and P = 1 where the shortcut projects, else 0:
        parameters = C_in·M + 9·M² + M·C_out + 4·M + 2·C_out + P·(C_in·C_out + 2·C_out)
        MACs       = C_in·M · h·w + (9·M² + M·C_out + P·C_in·C_out) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu,
    ) -> None:
        super().__init__()
        middle = bottleneck_channels
        self.conv1 = ConvNormAct(in_channels, middle, kernel_size=1, norm=norm, act=act)
        self.conv2 = ConvNormAct(middle, middle, stride=stride, norm=norm, act=act)
        self.conv3 = ConvNormAct(middle, out_channels, kernel_size=1, norm=norm, act=None)
        self.shortcut = _shortcut(in_channels, out_channels, stride=stride, norm=norm)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C_out, H, W]."""
        out: Tensor = self.act(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))
        return out
