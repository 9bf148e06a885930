"""Squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, relu


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the image's mean of all channels.

    Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507, equations 2-4; MobileNetV3
    (https://arxiv.org/abs/1905.02244, section 5.3) takes a quarter of the expanded channels as
    the bottleneck and h-sigmoid as the gate.

    With C channels and S squeezed channels (1×1 convolutions with bias):
        parameters = 2·C·S + S + C
        MACs       = 2·C·S   (the gate, once an image; pooling and scaling cost 2·C·H·W additions
                              and multiplications beside it)
    """

    def __init__(
        self,
        channels: int,
        squeezed_channels: int,
        *,
        act: ActFactory = relu,
        gate: Callable[[], nn.Module] = nn.Hardsigmoid,
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed_channels, 1)
        self.act = act()
        self.expand = nn.Conv2d(squeezed_channels, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        # Not AdaptiveAvgPool2d: on channels_last tensors that exports with a Gather and a Reshape.
        pooled = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(pooled))))
        return x * gate
