"""Pruning in rounds: what a channel matters is measured anew on what the last round has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flyweight.compression.prune import PrunedDetector, prune
from flyweight.compression.prune_importance import LabelledBatches
from flyweight.compression.prune_target import Target
from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector


def prune_gradually(
    detector: Detector,
    target: Target,
    *,
    rounds: int,
    batches: Callable[[Detector], LabelledBatches] = lambda _: (),
    **options: Any,
) -> PrunedDetector:
    """`prune` to `target` in rounds, each to the same share of the one before.

    First-order estimates hold near the network they were made of (Molchanov et al. 2019, section
    3.3, prune little by little for the same reason). Rounds cost one measurement each, no training.

    Args:
        detector: trained; it stays as it is.
        target: of the last round.
        rounds: 1 or more.
        batches: labelled images for "taylor", fresh ones at each call.
        options: of `prune`.

    Raises:
        InputError: as of `prune`, or there are no rounds.
    """
    if rounds < 1:
        raise InputError(f"{rounds} rounds of pruning", where="rounds", fix="give 1 or more")
    before = target.cost(detector)({})
    share = min(target.limit(before) / before, 1.0)
    limits = [before * share ** (done / rounds) for done in range(1, rounds + 1)]
    smaller = detector
    total = gone = 0
    for limit in limits:
        step = replace(target, share=None, amount=limit)
        done = prune(smaller, step, batches=batches(smaller), **options)
        total = total or done.channels[1]
        gone += done.channels[0]
        smaller = done.detector
    return replace(done, target=target, before=before, channels=(gone, total))
