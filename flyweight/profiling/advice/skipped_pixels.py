"""Maps of which most cells are never read: the stride steps over what the kernel leaves out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import Context, cure, listed_layers, repriced
from flyweight.profiling.advice.convolution import convolution_like, convolutions, geometry_of
from flyweight.profiling.operation import Operation

RULE = "skipped_pixels"
SOURCE = (
    "Yu et al. 2017, https://arxiv.org/abs/1705.09914, section 4: dilated kernels sample a grid; "
    "He et al. 2019, https://arxiv.org/abs/1812.01187, section 4.1: a 1×1 of stride 2 ignores "
    "three quarters of its input"
)
LEAST_READ = 0.5
# Of backbones whose option it is: what reads every pixel.
DENSE_STEM = {"document_net": ("stem_dilation", 1)}


def read_share(operation: Operation) -> float:
    """The share of a convolution's input cells that its kernel ever touches, 0 to 1.

    Output cell o and tap k read position s·o + d·k - p: of the s positions between two steps, those
    that are d·k modulo s for some k of the kernel.
    """
    geometry, share = geometry_of(operation), 1.0
    for size, stride, dilation in zip(
        geometry.kernel_hw, geometry.stride_hw, geometry.dilation_hw, strict=True
    ):
        share *= len({dilation * tap % stride for tap in range(size)}) / stride
    return share


def skipped_pixels(context: Context) -> list[Advice]:
    """Convolutions that are alone in reading a map, and leave out more than half of it."""
    found = _skipping(context)
    if not found:
        return []
    names, least = listed_layers(found), min(read_share(each) for each in found)
    finding = f"strides step over what the kernels leave out: only {least:.0%} of a map is read"
    config = context.config
    name, dilation = DENSE_STEM.get(getattr(config, "backbone", ""), ("", 1))
    if config is not None and name:
        options = dict(config.backbone_options) | {name: dilation}
        offered = cure(context, _skipping, {"backbone_options": tuple(options.items())})
        if offered is not None:
            change = f"take {name} {dilation}: as many multiplications, and every pixel is read"
            advice = Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])
            return [replace(advice, serves="accuracy")]
    change = "take a dilation that shares no factor with the stride, or a kernel as large as it"
    dense = {
        index: (convolution_like(each, geometry=replace(geometry_of(each), dilation_hw=(1, 1))),)
        for index, each in convolutions(context.cost)
        if each in found
    }
    advice = Advice(RULE, finding, change, SOURCE, names, repriced(context, dense))
    return [replace(advice, serves="accuracy")]


def _skipping(context: Context) -> Sequence[Operation]:
    readers: dict[int, list[Operation]] = defaultdict(list)
    for operation in context.cost.operations:
        for each in operation.inputs:
            readers[each].append(operation)
    return [
        operation
        for _, operation in convolutions(context.cost)
        if len(readers[operation.inputs[0]]) == 1 and read_share(operation) < LEAST_READ
    ]
