"""Blocks that stand alone, one noun a file, each with its cost in the docstring."""

from __future__ import annotations

from flyweight.models.layers.activations import (
    ActFactory,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    mish,
    relu,
    relu6,
)
from flyweight.models.layers.channel_shuffle import ChannelShuffle, ChannelSplit
from flyweight.models.layers.cmbn import CmBN
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.csp import CSPStage
from flyweight.models.layers.darknet_residual import DarknetResidual
from flyweight.models.layers.deformable import DeformableConv, DeformableConvNormAct
from flyweight.models.layers.depthwise import DepthwiseSeparable
from flyweight.models.layers.drop_block import DropBlock
from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.layers.fire import Fire
from flyweight.models.layers.frozen_batch_norm import FrozenBatchNorm
from flyweight.models.layers.ghost import GhostBottleneck, GhostModule
from flyweight.models.layers.group_norm import group_norm
from flyweight.models.layers.inverted_residual import InvertedResidual
from flyweight.models.layers.l2_norm import L2Norm
from flyweight.models.layers.pooling import GlobalAveragePool, IndexedMaxPool, MaxUnpool
from flyweight.models.layers.residual import BasicBlock, Bottleneck
from flyweight.models.layers.shuffle_unit_v1 import ShuffleUnitV1
from flyweight.models.layers.shuffle_unit_v2 import ShuffleUnitV2
from flyweight.models.layers.spp import SPP
from flyweight.models.layers.squeeze_excite import SqueezeExcite
from flyweight.models.layers.transposed import TransposedConvNormAct
from flyweight.models.layers.widths import make_divisible

__all__ = [
    "SPP",
    "ActFactory",
    "BasicBlock",
    "Bottleneck",
    "CSPStage",
    "ChannelShuffle",
    "ChannelSplit",
    "CmBN",
    "ConvNormAct",
    "DarknetResidual",
    "DeformableConv",
    "DeformableConvNormAct",
    "DepthwiseSeparable",
    "DropBlock",
    "FeatureInfo",
    "Fire",
    "FrozenBatchNorm",
    "GhostBottleneck",
    "GhostModule",
    "GlobalAveragePool",
    "IndexedMaxPool",
    "InvertedResidual",
    "L2Norm",
    "MaxUnpool",
    "NormFactory",
    "ShuffleUnitV1",
    "ShuffleUnitV2",
    "SqueezeExcite",
    "TransposedConvNormAct",
    "group_norm",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "make_divisible",
    "mish",
    "relu",
    "relu6",
]
