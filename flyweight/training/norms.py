"""What becomes of BatchNorm when batches are small or in pieces."""

from __future__ import annotations

from lightning.fabric import Fabric
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from flyweight.core.errors import InputError
from flyweight.models.layers import CmBN


def freeze_norms(detector: nn.Module) -> list[nn.Module]:
    """Keep all BatchNorm layers as they are: statistics, weights and biases.

    What detectors over ImageNet's weights do where a batch has few images (He et al. 2017, Mask
    R-CNN, section 3.1; torchvision's FrozenBatchNorm2d).

    Returns:
        The layers. They must stay in evaluation mode, or their statistics would go on changing.
    """
    norms: list[nn.Module] = [
        module for module in detector.modules() if isinstance(module, _BatchNorm)
    ]
    for norm in norms:
        norm.requires_grad_(False)
    return norms


def join_norms(detector: nn.Module, mini_batches: int) -> list[CmBN]:
    """Tell every CmBN how many parts a batch passes in.

    Returns:
        The layers.
    """
    norms = [module for module in detector.modules() if isinstance(module, CmBN)]
    for norm in norms:
        norm.mini_batches = mini_batches
        norm.start_batch()
    return norms


def synchronise_norms(network: nn.Module, fabric: Fabric) -> nn.Module:
    """The network with BatchNorm over the batches of all processes; a lone one stays as it is.

    The names of its tensors stay, so that a checkpoint is the same.

    Raises:
        InputError: torch has it on GPUs only, and not for other kinds of norms.
    """
    if fabric.world_size == 1:
        return network
    if fabric.device.type != "cuda":
        raise InputError(
            "sync_norms works on CUDA GPUs only",
            where="recipe field sync_norms",
            fix="train with norm=group, which does not depend on the batch",
        )
    if any(isinstance(module, CmBN) for module in network.modules()):
        raise InputError("CmBN cannot be synchronised", where="recipe field sync_norms")
    made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return made
