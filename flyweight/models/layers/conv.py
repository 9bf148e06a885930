"""Convolution, norm, activation: the brick of every network here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, relu

NormFactory = Callable[[int], nn.Module]


class ConvNormAct(nn.Sequential):
    """A convolution, a norm over its output channels, and an activation.

    Children are named `conv`, `norm` and `act`; `norm` or `act` is absent when its factory is
    None. Padding keeps the size at stride 1 ("same", symmetric). The convolution has a bias only
    where no norm would cancel it.

    With k kernel size, g groups, H·W output pixels:
        parameters = k²·C_in·C_out/g + 2·C_out   (norm; or + C_out for the bias without norm)
        MACs       = k²·C_in·C_out/g · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        padding: int | None = None,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory | None = relu,
    ) -> None:
        super().__init__()
        if padding is None:
            padding = (kernel_size - 1) // 2 * dilation
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=norm is None,
        )
        if norm is not None:
            self.norm = norm(out_channels)
        if act is not None:
            self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H / stride, W / stride]."""
        norm = getattr(self, "norm", None)
        # Only within training: elsewhere hooks on the convolution (profilers, tracers) must see it.
        frozen = torch.is_grad_enabled() and not self.conv.weight.requires_grad
        if not frozen or not isinstance(norm, nn.BatchNorm2d) or norm.training:
            return super().forward(x)
        x = self._convolve_folded(x, norm)
        act = getattr(self, "act", None)
        return x if act is None else act(x)

    def _convolve_folded(self, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """Convolution with a fixed BatchNorm inside its weights.

        A norm of its own would read and write the whole feature map once more. Folding weights
        costs next to nothing.
        """
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        bias = norm.bias - mean * scale
        if self.conv.bias is not None:
            bias = bias + self.conv.bias * scale
        weight = self.conv.weight * scale.view(-1, 1, 1, 1)
        conv = self.conv
        return torch.nn.functional.conv2d(
            x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
