"""Others' networks whose layers are cut otherwise than ours, brought into our cut.

`convert_state_dict` pairs layers one to one. That is not enough where another code holds two of
our layers in one tensor, or one layer in another shape: such tensors are rearranged here first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.vgg import VGG16

# SSD keeps every fourth channel of fc6 and fc7 and every third pixel of fc6's 7×7.
_CHANNEL_STEP, _PIXEL_STEP, _FC6_SIZE = 4, 3, 7
# Weight and bias of thirteen convolutions.
_VGG_FEATURE_TENSORS = 26


def in_our_layout(
    state: Mapping[str, Tensor], backbone_name: str, backbone: Backbone
) -> dict[str, Tensor]:
    """`state`, in order of definition, with one tensor for each of ours, of its shape.

    Args:
        state: a network's tensors as torchvision or timm name them; others pass unchanged.
        backbone_name: a key of `BACKBONES`.
        backbone: the one that the weights are for.
    """
    if backbone_name == "cspdarknet53":
        return _split_cross_stages(state)
    if backbone_name == "ghostnet":
        return _linear_head(state)
    if backbone_name == "vgg16" and backbone.architecture["atrous"]:
        return _reduced_vgg(state, backbone)
    return dict(state)


def _split_cross_stages(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's CSPDarknet: `conv_exp` is both parts of a stage in one convolution.

    Its first half goes around the blocks, the second through them. timm concatenates in this
    order before `conv_transition`, Darknet the other way round.
    """
    rearranged: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stage, found, _ = name.partition("conv_exp.")
        if found:
            whole = {key: each for key, each in state.items() if key.startswith(stage + found)}
            for half, part in enumerate(("route", "entry")):
                for key, each in whole.items():
                    halved = each.chunk(2)[half] if each.ndim else each
                    rearranged[key.replace("conv_exp", part)] = halved
        elif name.endswith("conv_transition.conv.weight"):
            around, through = tensor.chunk(2, dim=1)
            rearranged[name] = torch.cat((through, around), dim=1)
        else:
            rearranged[name] = tensor
    return rearranged


def _linear_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's GhostNet: the hidden layer after the pooling is a 1×1 convolution."""
    return {
        name: tensor.flatten(1) if name.endswith("conv_head.weight") else tensor
        for name, tensor in state.items()
    }


def _reduced_vgg(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """SSD's conv6 and conv7 from VGG-16's fc6 and fc7.

    Fully convolutional with fewer samples, https://arxiv.org/abs/1512.02325, section 3: of fc6 as
    a 7×7 convolution every third row and column is kept, which dilation 6 then spreads over the
    same field. Where a file has only the convolutions (torchvision's `IMAGENET1K_FEATURES` fills
    the rest with NaN), conv6 and conv7 start at random.
    """
    matrices = [name for name, tensor in state.items() if tensor.ndim == 2]
    if not matrices and len(state) != _VGG_FEATURE_TENSORS:
        return dict(state)
    reduced = {
        name: tensor
        for name, tensor in state.items()
        if name.rpartition(".")[0] not in {matrix.rpartition(".")[0] for matrix in matrices}
    }
    if len(matrices) == 3 and all(state[name].isfinite().all() for name in matrices[:2]):
        weight6, weight7 = (state[name] for name in matrices[:2])
        bias6, bias7 = (state[name.replace("weight", "bias")] for name in matrices[:2])
        field = weight6.unflatten(1, (-1, _FC6_SIZE, _FC6_SIZE))
        step = _CHANNEL_STEP
        reduced["conv6.weight"] = field[::step, :, ::_PIXEL_STEP, ::_PIXEL_STEP]
        reduced["conv6.bias"] = bias6[::step]
        reduced["conv7.weight"] = weight7[::step, ::step, None, None]
        reduced["conv7.bias"] = bias7[::step]
    else:
        fresh = VGG16(outputs=["final"], **backbone.architecture).state_dict()
        reduced |= {name: tensor for name, tensor in fresh.items() if ".final." in name}
    return reduced
