"""Channel pruning: a smaller detector with the channels of a trained one that matter most.

Whole channels go, of all layers that depend on each other at once, least important first, until
the detector costs what was asked for. What is left is an ordinary detector whose config says how
wide its layers are: it is saved, loaded, trained, pruned again, folded and exported like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from flyweight.compression.prune_groups import ChannelGroup, find_groups
from flyweight.compression.prune_importance import (
    IMPORTANCES,
    ImportanceKind,
    LabelledBatches,
    measure_saliencies,
    relative_scores,
    taylor_scores,
)
from flyweight.compression.prune_target import Target
from flyweight.compression.prune_widths import kept_channels, with_channels
from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector

Scope = Literal["global", "layer"]
SCOPES = get_args(Scope)


@dataclass(frozen=True)
class PrunedDetector:
    """What pruning gave.

    Attributes:
        detector: the smaller one, in the mode of the one it comes from.
        target: what was asked for.
        before, after: cost in the target's unit.
        step: what the last channels that went saved: `after` is at most so far below the target.
        channels: output channels that went, of how many that could.
    """

    detector: Detector
    target: Target
    before: float
    after: float
    step: float
    channels: tuple[int, int]


def prune(
    detector: Detector,
    target: Target,
    *,
    importance: ImportanceKind = "magnitude",
    scope: Scope = "global",
    multiple: int = 8,
    least: float = 0.125,
    by_saving: bool | None = None,
    batches: LabelledBatches = (),
) -> PrunedDetector:
    """A copy of `detector` without the channels that matter least.

    The last layers, of classes and boxes, keep theirs; see `find_groups` for what else stays.

    Args:
        detector: trained; it stays as it is.
        target: what the detector may cost.
        importance: of channels: "taylor" by labelled images, see `taylor_scores`, far ahead of
            the others (docs/experiments.md); else by the weights alone, see `relative_scores`.
        scope: "global" ranks all channels of the network together, by weights so that every group
            loses a like share of its own worth; "layer" takes the same share of each layer.
        multiple: of channels that a layer ends with, wherever it loses any.
        least: share of a layer's channels that stay in any case.
        by_saving: ranks by importance for what is saved, so that expensive layers lose more
            (latency-aware where the target is in milliseconds); with "taylor" by default.
        batches: for "taylor".

    Raises:
        InputError: an argument that cannot be, or a target that cannot be reached.
    """
    _check(importance, scope, multiple, least)
    groups = find_groups(detector)[0]
    taylor = importance == "taylor"
    if taylor:
        saliencies = measure_saliencies(detector, batches)
        scores = [taylor_scores(group, saliencies) for group in groups]
    else:
        scores = [relative_scores(group, importance) for group in groups]
    rank = _as_share if scope == "layer" else _as_worth if taylor else _as_lost_share
    cost_of_kept = target.cost(detector)

    def cost(gone: Sequence[Tensor]) -> float:
        return cost_of_kept(kept_channels(groups, gone))

    none = [torch.zeros(group.units, dtype=torch.bool) for group in groups]
    before = cost(none)
    chunks = [
        chunk
        for place, group in enumerate(groups)
        for chunk in _chunks(place, group, scores[place], multiple, least, rank)
    ]
    if taylor if by_saving is None else by_saving:
        chunks = _by_saving(chunks, none, cost, before)
    chunks.sort(key=lambda chunk: chunk.rank)
    count, after, step = _fewest(chunks, none, cost, before, target)
    kept = kept_channels(groups, _without(none, chunks[:count]))
    smaller = with_channels(detector, kept)
    smaller.lineage["pruned"] = [
        *detector.lineage.get("pruned", ()),
        {"importance": importance, "scope": scope, **target.to_dict(), "from": before, "to": after},
    ]
    outputs = [mask for (_, side), mask in kept.items() if side == "out"]
    gone = sum(int((~mask).sum()) for mask in outputs)
    return PrunedDetector(smaller, target, before, after, step, (gone, sum(map(len, outputs))))


@dataclass(frozen=True)
class _Chunk:
    """Units that go together, so that the layers' widths stay multiples: of a group the next ones.

    `rank`: the lower, the earlier it goes; within a group it never falls.
    """

    group: int
    units: Tensor
    rank: float


def _chunks(
    place: int, group: ChannelGroup, scores: Tensor, multiple: int, least: float, rank: _Rank
) -> list[_Chunk]:
    """The units of a group that may go, least important first."""
    size = math.ceil(multiple / group.narrowest)
    # The first chunk is what is too much for a multiple.
    stay = max(math.ceil(least * group.units / size), 1) * size
    starts = [0, *range(group.units % size or size, group.units - stay + 1, size)]
    scores, order = scores.sort(stable=True)
    return [
        _Chunk(place, order[start:end], rank(scores, start, end)) for start, end in pairwise(starts)
    ]


# From a group's scores, lowest first, to the rank of those from `start` up to `end`.
_Rank = Callable[[Tensor, int, int], float]


def _as_worth(scores: Tensor, start: int, end: int) -> float:
    """What a unit of them is worth, where scores compare across groups."""
    return float(scores[start:end].mean())


def _as_lost_share(scores: Tensor, start: int, end: int) -> float:
    """The share of the group's worth that is lost with them, where scores do not compare."""
    return float(scores[:end].sum())


def _as_share(scores: Tensor, start: int, end: int) -> float:
    """The share of the group's units that is lost with them."""
    return end / len(scores)


def _by_saving(
    chunks: list[_Chunk],
    none: Sequence[Tensor],
    cost: Callable[[Sequence[Tensor]], float],
    before: float,
) -> list[_Chunk]:
    """The chunks with ranks divided by what each unit of their group saves.

    As in HALP (Shen et al. 2022, https://arxiv.org/abs/2110.10811): of channels that matter alike,
    those go first that cost most.
    """
    first = {chunk.group: chunk for chunk in reversed(chunks)}
    saved = {
        place: max(before - cost(_without(none, [chunk])), 1e-6 * before) / len(chunk.units)
        for place, chunk in first.items()
    }
    return [replace(chunk, rank=chunk.rank / saved[chunk.group]) for chunk in chunks]


def _fewest(
    chunks: Sequence[_Chunk],
    none: Sequence[Tensor],
    cost: Callable[[Sequence[Tensor]], float],
    before: float,
    target: Target,
) -> tuple[int, float, float]:
    """How many chunks have to go, what is left costs, and what the last one of them saved.

    By bisection; each try traces the network that it would leave, on shapes alone.
    """
    wanted = target.limit(before)
    costs = {0: before, len(chunks): cost(_without(none, chunks))}
    if costs[len(chunks)] > wanted:
        raise InputError(
            f"the detector cannot be pruned to {target.shown(wanted)}: with all that can go gone "
            f"it still takes {target.shown(costs[len(chunks)])}",
            where="prune",
            fix="ask for less, or train a smaller model",
        )
    if before <= wanted:
        return 0, before, 0.0
    low, high = 0, len(chunks)
    while high - low > 1:
        middle = (low + high) // 2
        costs[middle] = cost(_without(none, chunks[:middle]))
        low, high = (low, middle) if costs[middle] <= wanted else (middle, high)
    return high, costs[high], costs[low] - costs[high]


def _without(none: Sequence[Tensor], chunks: Sequence[_Chunk]) -> list[Tensor]:
    """Of each group which units are gone, bool `[U]`."""
    gone = [each.clone() for each in none]
    for chunk in chunks:
        gone[chunk.group][chunk.units] = True
    return gone


def _check(importance: str, scope: str, multiple: int, least: float) -> None:
    for option, value, choices in (
        ("importance", importance, IMPORTANCES),
        ("scope", scope, SCOPES),
    ):
        if value not in choices:
            raise InputError(
                f"unknown {option} {value!r}", where=option, fix=f"choose {', '.join(choices)}"
            )
    if multiple < 1:
        raise InputError(f"multiple {multiple} is below 1", where="multiple")
    if not 0 <= least <= 1:
        raise InputError(f"least {least} is not a share from 0 to 1", where="least")
