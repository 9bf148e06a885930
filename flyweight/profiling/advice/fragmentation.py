"""Many small branches cost parallelism (ShuffleNetV2, guideline G3)."""

from __future__ import annotations

from collections.abc import Sequence

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import Context, cure, listed_layers, repriced
from flyweight.profiling.advice.convolution import CONVOLUTIONS
from flyweight.profiling.operation import NetworkCost, Operation

RULE = "fragmentation"
SOURCE = "Ma et al. 2018 (ShuffleNetV2), G3 and table 3, https://arxiv.org/abs/1807.11164"
# Two branches are an FPN, a fire module, a shortcut with a projection; table 3 measures four.
MOST_BRANCHES = 2
KERNELS = (*CONVOLUTIONS, "max_pool2d", "avg_pool2d")
JOINS = ("add", "concat")


def fragmentation(context: Context) -> list[Advice]:
    """Blocks of more than two parallel branches with kernels of their own."""
    found = _fragmented(context.cost)
    if not found:
        return []
    joins = [context.cost.operations[index] for index in found]
    fragments = [context.cost.operations[each] for each in sorted(set().union(*found.values()))]
    names = listed_layers([*fragments, *joins])
    most = max(len(_branches(context.cost, index)) for index in found)
    finding = f"{len(found)} blocks join up to {most} parallel branches of small operators: each "
    finding += "waits for the slowest, and each is started by itself"
    if context.has("neck") and getattr(context.config, "neck", None) == "yolo_pan":
        offered = cure(context, _operations, {"neck": "yolo_fpn"})
        if offered is not None:
            change = "take the neck yolo_fpn: no pooling pyramid and no second, bottom-up way"
            return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    change = "keep one branch of each block; the price is that of all others"
    extra = {each: () for index in found for each in _all_but_heaviest(context.cost, index)}
    return [Advice(RULE, finding, change, SOURCE, names, repriced(context, extra))]


def _operations(context: Context) -> Sequence[Operation]:
    return [context.cost.operations[index] for index in _fragmented(context.cost)]


def _fragmented(cost: NetworkCost) -> dict[int, set[int]]:
    """Of each join of too many branches the operations in them."""
    found = {}
    for index, operation in enumerate(cost.operations):
        # maps alone: a head joins the predictions of its levels, which are no branches
        if operation.kind in JOINS and len(operation.output_shape) == 4:
            branches = _branches(cost, index)
            if len(branches) > MOST_BRANCHES:
                found[index] = set().union(*branches)
    return found


def _branches(cost: NetworkCost, join: int) -> list[set[int]]:
    """Of each input of a join the operations with kernels that no other input depends on."""
    above = [_ancestors(cost, each) for each in cost.operations[join].inputs]
    branches = []
    for number, mine in enumerate(above):
        shared = set().union(*(other for each, other in enumerate(above) if each != number))
        own = {each for each in mine - shared if cost.operations[each].kind in KERNELS}
        if own:
            branches.append(own)
    return branches


def _ancestors(cost: NetworkCost, index: int) -> set[int]:
    found: set[int] = set()
    waiting = [index]
    while waiting:
        each = waiting.pop()
        if each >= 0 and each not in found:
            found.add(each)
            waiting += cost.operations[each].inputs
    return found


def _all_but_heaviest(cost: NetworkCost, join: int) -> set[int]:
    def weight(branch: set[int]) -> int:
        return sum(cost.operations[each].access_bytes for each in branch)

    branches = sorted(_branches(cost, join), key=weight)
    return set().union(*branches[:-1])
