"""Advice carried out on a detector's config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flyweight.core.errors import InputError
from flyweight.models.detectors.config import Config
from flyweight.profiling.advice.advice import Advice, Price, price_of
from flyweight.profiling.advice.context import Context, changed_config
from flyweight.profiling.advice.rules import RULES, Rule

# Of one rule: it may have something to say of backbone, neck and head.
MOST_OF_A_RULE = 3


def apply(advice: Advice, config: Config) -> Config:
    """The config changed as `advice` says.

    Raises:
        InputError: no field of a config makes the change.
    """
    if not advice.fields:
        raise InputError(
            f"no field of the config does what {advice.rule} advises",
            where=advice.rule,
            fix="change the network's code",
        )
    return changed_config(config, advice.fields)


@dataclass(frozen=True)
class Improved:
    """A config after advice.

    Attributes:
        config: the new one.
        applied: what was carried out, in order.
        saving: of all of it together.
    """

    config: Config
    applied: tuple[Advice, ...]
    saving: Price


def improve(context: Context, *, rules: Sequence[Rule] | None = None) -> Improved:
    """Carry out, one after the other, all advice of `rules` that a field of the config can.

    Without `rules` it is that of all, but for another backbone: that is another detector, which
    only somebody who asks for it by the rule's name should get.

    After each change the network is traced and advised on anew, so that no two changes answer one
    finding. Advice that serves cost is taken if it saves time (MACs, where no device's time is
    known); advice that serves accuracy in any case.
    """
    if context.config is None:
        raise InputError("advice can be applied to a detector's config only", where="advice")
    first = price_of(context.cost_of(context.config), context.latency)
    applied: list[Advice] = []
    now = context
    for rule in RULES if rules is None else rules:
        for _ in range(MOST_OF_A_RULE):
            worthy = [
                advice
                for advice in rule(now)
                if _is_worth_it(advice) and (rules is not None or "backbone" not in advice.fields)
            ]
            changed = now.changed(worthy[0].fields) if worthy else None
            if changed is None:
                break
            now = changed
            applied.append(worthy[0])
    assert now.config is not None
    last = price_of(now.cost_of(now.config), context.latency)
    return Improved(now.config, tuple(applied), first - last)


def _is_worth_it(advice: Advice) -> bool:
    return bool(advice.fields) and (advice.serves == "accuracy" or advice.saving.gain > 0)
