"""Blocks that stand alone, one noun a file, each with its cost in the docstring."""

from __future__ import annotations

from flyweight.models.layers.activations import ActFactory, hard_swish, relu, relu6
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.depthwise import DepthwiseSeparable
from flyweight.models.layers.inverted_residual import InvertedResidual
from flyweight.models.layers.squeeze_excite import SqueezeExcite
from flyweight.models.layers.widths import make_divisible

__all__ = [
    "ActFactory",
    "ConvNormAct",
    "DepthwiseSeparable",
    "InvertedResidual",
    "NormFactory",
    "SqueezeExcite",
    "hard_swish",
    "make_divisible",
    "relu",
    "relu6",
]
