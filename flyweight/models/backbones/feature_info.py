"""What a backbone publishes about its feature levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flyweight.core.errors import InputError


@dataclass(frozen=True)
class FeatureInfo:
    """One feature level: a [B, channels, H / stride, W / stride] tensor (sizes rounded up).

    Names follow the papers: `C1` to `C5` are the outputs of the last block at strides 2 to 32;
    `C4_expanded` is the expansion output of the block that leaves stride 16 (what SSDlite
    reads); `final` is the last convolution before a classifier's pooling, where there is one.
    """

    name: str
    channels: int
    stride: int


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
