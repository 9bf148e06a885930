"""The choice of a backbone's feature levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flyweight.core.errors import InputError
from flyweight.models.layers.feature_info import FeatureInfo


def select_features(
    available: Sequence[FeatureInfo],
    outputs: str | Sequence[str],
    *,
    sets: Mapping[str, tuple[str, ...]],
    owner: str,
) -> tuple[FeatureInfo, ...]:
    """The levels that `outputs` asks for, in order of depth (coarsest last).

    Args:
        available: every level the backbone can give, in order of depth.
        outputs: the name of a set ("stages", "ssdlite", "classifier") or level names.
        sets: level names of each set.
        owner: the backbone's name, for the message of the InputError on an unknown name.
    """
    if isinstance(outputs, str):
        if outputs not in sets:
            raise InputError(
                f"{owner} has no output set {outputs!r}",
                where="outputs",
                fix=f"choose one of {', '.join(sets)} or list level names",
            )
        outputs = sets[outputs]
    names = [info.name for info in available]
    unknown = [name for name in outputs if name not in names]
    if unknown or not outputs:
        raise InputError(
            f"{owner} has no feature level {', '.join(map(repr, unknown)) or '(none given)'}",
            where="outputs",
            fix=f"choose from {', '.join(names)}",
        )
    return tuple(info for info in available if info.name in outputs)
