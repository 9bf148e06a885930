"""The first layer runs on the largest map: a small kernel with a stride."""

from __future__ import annotations

from collections.abc import Sequence

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import (
    Context,
    cure,
    listed_layers,
    other_backbone,
    repriced,
)
from flyweight.profiling.advice.convolution import convolution_like, convolutions, geometry_of
from flyweight.profiling.operation import Geometry, Operation

RULE = "first_layer"
SOURCE = (
    "Iandola et al., SqueezeNet 1.1 (the authors' repository): 3×3 for 7×7 in the first layer, 2.4 "
    "times fewer multiplications in all, as accurate"
)
LARGEST_KERNEL = 3
MOST_MACS = 0.1
# The same network with a small first kernel.
SMALL_KERNEL = {"squeezenet1_0": "squeezenet1_1"}


def first_layer(context: Context) -> list[Advice]:
    """A first convolution with a large kernel, without a stride, or with a tenth of all MACs."""
    found = _heavy_first(context)
    if not found:
        return []
    index, first = next(pair for pair in convolutions(context.cost) if pair[1] is found[0])
    geometry = geometry_of(first)
    share = first.macs / max(context.cost.macs, 1)
    rows, columns = geometry.kernel_hw
    finding = (
        f"the first layer is a {rows}×{columns} convolution of stride {geometry.stride_hw[0]} with "
        f"{share:.0%} of all multiplications"
    )
    names, config = listed_layers(found), context.config
    if config is not None and config.backbone in SMALL_KERNEL:
        name = SMALL_KERNEL[config.backbone]
        offered = cure(context, _heavy_first, other_backbone(config, name))
        if offered is not None:
            change = f"take {name}, which begins with a 3×3 and is as accurate"
            return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    change = "take a 3×3 of stride 2, or fewer channels"
    small = Geometry((3, 3), (2, 2), (1, 1), (1, 1))
    height, width = first.input_shapes[0][-2:]
    light = convolution_like(first, geometry=small, output_hw=((height + 1) // 2, (width + 1) // 2))
    return [Advice(RULE, finding, change, SOURCE, names, repriced(context, {index: (light,)}))]


def _heavy_first(context: Context) -> Sequence[Operation]:
    first = next((each for _, each in convolutions(context.cost) if each.inputs == (-1,)), None)
    if first is None:
        return []
    geometry = geometry_of(first)
    heavy = first.macs > MOST_MACS * context.cost.macs
    plain = max(geometry.kernel_hw) <= LARGEST_KERNEL and min(geometry.stride_hw) > 1
    return [] if plain and not heavy else [first]
