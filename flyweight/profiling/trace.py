"""The operations of a network with their shapes and prices, found without computing anything.

The network is copied to torch's meta device, where tensors have shapes but no memory, and run once
under a dispatch mode that sees every operator that torch would call. So the list is torch's own: no
rule about a layer's shapes, paddings or roundings is written a second time.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.layers.deformable import DeformableConv
from flyweight.profiling.assembly import assemble
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.recorder import Recorder


def trace(
    network: nn.Module, input_shape: tuple[int, int, int, int], *, name: str = ""
) -> NetworkCost:
    """Every operation of a pass through `network` in evaluation, in order, with its price.

    Args:
        network: it is copied without its weights, and stays as it is.
        input_shape: `[B, 3, H, W]`.
        name: of the model; by default the class of `network`.

    Raises:
        InputError: the input is too small for the network's strides.
    """
    shapes = without_memory(network)
    return _trace(shapes, shapes, input_shape, name=name)


def trace_detector(
    detector: Detector,
    *,
    size_hw: tuple[int, int] | None = None,
    batch: int = 1,
    folded: bool = False,
) -> NetworkCost:
    """Every operation of a detector's network; of two stages both, the second on all proposals.

    Decoding and NMS are no part of it.

    Args:
        size_hw: of the input, pixels; by default the detector's own.
        batch: images that go through together.
        folded: without the BatchNorms that `flyweight.compression.fold` would fold.

    Raises:
        InputError: the input is too small for the network's strides.
    """
    size_hw = detector.preprocessing.size_hw if size_hw is None else size_hw
    model = without_memory(detector.model)
    if folded:
        _fold_shapes(model)
    run: Callable[[Tensor], Any] = model
    if hasattr(model, "roi_head"):
        _, postprocess = detector.interpretation(size_hw)
        run = _both_stages(model, cast(Any, postprocess).propose.keep, size_hw, batch)
    return _trace(model, run, (batch, 3, *size_hw), name=detector.config.name)


def without_memory(network: nn.Module) -> nn.Module:
    """A copy of `network` in evaluation mode whose tensors have shapes, float32, and no memory."""
    shapes: dict[int, Any] = {}
    for parameter in network.parameters():
        shapes[id(parameter)] = nn.Parameter(_shape_of(parameter), requires_grad=False)
    for buffer in network.buffers():
        shapes[id(buffer)] = _shape_of(buffer)
    # Named in advance as already copied, weights are not copied.
    return copy.deepcopy(network, shapes).eval()


def _shape_of(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty_like(tensor, device="meta", dtype=dtype)


def _fold_shapes(network: nn.Module) -> None:
    """What `flyweight.compression.fold` leaves of a network, as far as shapes go."""
    foldable = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, DeformableConv)
    for parent in list(network.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        for (_, layer), (name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(layer, foldable) and isinstance(norm, _BatchNorm):
                if layer.bias is None:
                    layer.bias = nn.Parameter(torch.empty(norm.num_features, device="meta"))
                setattr(parent, name, nn.Identity())


def _both_stages(
    model: nn.Module, proposals: int, size_hw: tuple[int, int], batch: int
) -> Callable[[Tensor], Any]:
    """Both stages of a Faster R-CNN, on proposals of all sizes."""
    # On the CPU: which level a proposal is read from depends on its size.
    height, width = size_hw
    sides = torch.logspace(0, -4, proposals, base=2, device="cpu").unsqueeze(1)
    half = sides * torch.tensor([width, height], device="cpu") / 2
    centre = torch.tensor([width, height], device="cpu") / 2
    boxes_xyxy = torch.cat((centre - half, centre + half), dim=1).expand(batch, -1, -1)

    def run(images: Tensor) -> Any:
        raw = model(images)
        return raw.objectness, raw.deltas, raw.roi_head(raw.features, boxes_xyxy)

    return run


def _trace(
    network: nn.Module,
    run: Callable[[Tensor], Any],
    input_shape: tuple[int, int, int, int],
    *,
    name: str,
) -> NetworkCost:
    # Channels-last, as a detector's input is: then laying predictions out by anchor moves nothing.
    images = torch.empty(input_shape, device="meta").to(memory_format=torch.channels_last)
    name = name or type(network).__name__
    recorder = Recorder(root=name)
    try:
        with torch.no_grad(), recorder.layers_of(network), recorder:
            outputs = [each for each in tree_leaves(run(images)) if isinstance(each, Tensor)]
    except RuntimeError as error:
        raise InputError(
            f"the network cannot take an input of {input_shape[2]}x{input_shape[3]} "
            f"({str(error).splitlines()[0][:150]})",
            where="size",
            fix="take a larger input",
        ) from error
    weights = (*network.parameters(), *network.buffers())
    operations, leaving = assemble(recorder.calls, images, outputs=outputs, weights=weights)
    return NetworkCost(name, input_shape, operations, leaving)
