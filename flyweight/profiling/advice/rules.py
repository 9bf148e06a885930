"""All rules, and what they say of a network together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flyweight.core.errors import InputError
from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.anchors import anchors, small_objects
from flyweight.profiling.advice.context import Context
from flyweight.profiling.advice.depth import depth
from flyweight.profiling.advice.elementwise import elementwise
from flyweight.profiling.advice.equal_channels import equal_channels
from flyweight.profiling.advice.first_layer import first_layer
from flyweight.profiling.advice.fragmentation import fragmentation
from flyweight.profiling.advice.grouping import grouping
from flyweight.profiling.advice.int8_activations import int8_activations
from flyweight.profiling.advice.kernels import (
    factorised_kernels,
    pointwise_head,
    separable_convolutions,
)
from flyweight.profiling.advice.multiples_of_8 import multiples_of_8
from flyweight.profiling.advice.normalisation import norms_that_fold, small_batches
from flyweight.profiling.advice.receptive_field import receptive_field
from flyweight.profiling.advice.skipped_pixels import skipped_pixels
from flyweight.profiling.advice.strides import last_map, stride_schedule

Rule = Callable[[Context], list[Advice]]

# What changes the kind of layers comes first, what fits a network to its data last: the order in
# which changes are made, too.
RULES: tuple[Rule, ...] = (
    int8_activations,
    depth,
    grouping,
    equal_channels,
    fragmentation,
    elementwise,
    first_layer,
    skipped_pixels,
    separable_convolutions,
    pointwise_head,
    factorised_kernels,
    stride_schedule,
    multiples_of_8,
    small_batches,
    norms_that_fold,
    last_map,
    receptive_field,
    small_objects,
    anchors,
)


def advise(context: Context, *, rules: Sequence[Rule] = RULES) -> list[Advice]:
    """What the rules find, in their order."""
    return [advice for rule in rules for advice in rule(context)]


def rules_named(names: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of these names.

    Raises:
        InputError: there is no rule of a name.
    """
    by_name = {rule.__name__: rule for rule in RULES}
    for name in names:
        if name not in by_name:
            raise InputError(
                f"there is no rule {name!r}", where="rule", fix=f"choose {', '.join(by_name)}"
            )
    return tuple(by_name[name] for name in names)
