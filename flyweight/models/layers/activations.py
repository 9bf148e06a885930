"""Activation factories: functions without arguments that give a new module.

In place, because the input is always the output of a norm or a convolution, which no backward
pass reads again.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

ActFactory = Callable[[], nn.Module]


def relu() -> nn.Module:
    """max(0, x)."""
    return nn.ReLU(inplace=True)


def relu6() -> nn.Module:
    """min(max(0, x), 6): bounded, so robust in low precision (MobileNetV1, V2)."""
    return nn.ReLU6(inplace=True)


def hard_swish() -> nn.Module:
    """x * ReLU6(x + 3) / 6 (MobileNetV3, https://arxiv.org/abs/1905.02244, section 5.2)."""
    return nn.Hardswish(inplace=True)


def hard_sigmoid() -> nn.Module:
    """ReLU6(x + 3) / 6, the gate of MobileNetV3 (https://arxiv.org/abs/1905.02244, section 5.2)."""
    return nn.Hardsigmoid(inplace=True)


def leaky_relu() -> nn.Module:
    """x where positive, else 0.1 * x: the slope of Darknet (YOLOv3, YOLOv4)."""
    return nn.LeakyReLU(0.1, inplace=True)


def mish() -> nn.Module:
    """x * tanh(softplus(x)) (Mish, https://arxiv.org/abs/1908.08681): YOLOv4's backbone."""
    return nn.Mish(inplace=True)


def gentle_leaky_relu() -> nn.Module:
    """x where positive, else 0.01 * x: the slope of torch and of timm's Darknets."""
    return nn.LeakyReLU(0.01, inplace=True)


# By the names that a detector's config gives them.
ACTIVATIONS: dict[str, ActFactory] = {
    "relu": relu,
    "relu6": relu6,
    "hard_swish": hard_swish,
    "leaky_relu": leaky_relu,
    "leaky_relu_0.01": gentle_leaky_relu,
    "mish": mish,
}
