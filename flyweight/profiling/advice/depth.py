"""About the depth of a ResNet-18 is enough for simple tasks."""

from __future__ import annotations

from collections.abc import Sequence

from flyweight.profiling.advice.advice import Advice, Price
from flyweight.profiling.advice.context import Context, cure, equally_heavy, listed_layers
from flyweight.profiling.advice.convolution import convolutions, longest_path, part_of
from flyweight.profiling.operation import Operation

RULE = "depth"
SOURCE = (
    "He et al. 2016 (ResNet), table 1, https://arxiv.org/abs/1512.03385: 18 layers; the slim "
    "RetinaNet for documents started from them, since few rigid classes need no more"
)
RESNET_18 = 18
# Half as deep again is still about it.
DEEPEST = 27
# A task of few classes; with more of them nobody can say that a deep network is too deep.
SIMPLE_CLASSES = 3
# Backbones that can be shallower without another kind of layer; for others the plain one.
SHALLOWER = {
    "resnet34": "resnet18",
    "resnet50": "resnet18",
    "resnet101": "resnet18",
    "darknet53": "resnet18",
    "cspdarknet53": "resnet18",
}
PLAIN = "mobilenet_v1"


def depth(context: Context) -> list[Advice]:
    """A backbone much deeper than ResNet-18 for a task of few classes."""
    found = _too_deep(context)
    if not found or context.config is None:
        return []
    layers = backbone_depth(context)
    classes = context.config.num_classes
    finding = (
        f"the backbone is {layers} layers deep (a depthwise and its pointwise convolution count as "
        f"one) for {classes} {'class' if classes == 1 else 'classes'}; a ResNet-18 has {RESNET_18}"
    )
    names = listed_layers(found)
    name = SHALLOWER.get(context.config.backbone, PLAIN)
    fields = equally_heavy(context, name, most_width=1.0)
    offered = None if fields is None else cure(context, _too_deep, fields)
    if offered is not None and fields is not None:
        change = f"take {name} at width {fields.get('width', context.config.width):g}: train both, "
        change += "and keep the shallow one if it finds as much"
        return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    change = "repeat its blocks less often; no field of the config does, so it has no price"
    return [Advice(RULE, finding, change, SOURCE, names, Price(0, 0, 0))]


def backbone_depth(context: Context) -> int:
    """Layers with weights on the longest way through the backbone, depthwise ones not counted."""
    return longest_path(context.cost, _layers(context))


def _layers(context: Context) -> list[int]:
    return [
        index
        for index, operation in convolutions(context.cost)
        if part_of(operation) == "backbone"
        and not operation.depthwise
        # the gates of squeeze-and-excitation choose channels, they add no features
        and operation.output_shape[-1] > 1
    ]


def _too_deep(context: Context) -> Sequence[Operation]:
    config = context.config
    if config is None or config.num_classes > SIMPLE_CLASSES:
        return []
    if backbone_depth(context) <= DEEPEST:
        return []
    return [context.cost.operations[index] for index in _layers(context)]
