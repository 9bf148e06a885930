"""Configs: frozen dataclasses with all numbers of an architecture, to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar, Protocol, TypeVar

from flyweight.core.errors import InputError
from flyweight.models.detectors.pruned import Pruned


class Config(Protocol):
    """What every detector's config has. The order of levels is finest first.

    Attributes:
        family: which detector file builds it.
        name: the zoo's name of the preset it comes from.
        num_classes: C, without background.
        size_hw: height and width of the input, pixels.
        backbone: a name of `flyweight.models.backbones`.
        backbone_options: of that family of backbones, such as `(("atrous", True),)`.
        width: multiplier of the backbone's channels.
        backbone_norm: "batch", "cmbn", "group" or "none".
        backbone_norm_eps: of BatchNorm in the backbone; None for the detector's own. Pretrained
            weights need the one they were trained with.
        folded: BatchNorm is folded into the convolutions, the modules have none.
        pruned: layers that pruning left narrower than these numbers say.
    """

    family: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def size_hw(self) -> tuple[int, int]: ...

    @property
    def backbone(self) -> str: ...

    @property
    def backbone_options(self) -> tuple[tuple[str, Any], ...]: ...

    @property
    def width(self) -> float: ...

    @property
    def backbone_norm(self) -> str: ...

    @property
    def backbone_norm_eps(self) -> float | None: ...

    @property
    def folded(self) -> bool: ...

    @property
    def pruned(self) -> Pruned: ...

    def to_dict(self) -> dict[str, Any]: ...


C = TypeVar("C")


def to_dict(config: Config) -> dict[str, Any]:
    """JSON-ready, with the detector's family; `from_dict` reads it back."""
    return {"family": config.family, **{key: _listed(v) for key, v in asdict(config).items()}}


def from_dict(kind: type[C], content: Mapping[str, Any]) -> C:
    """The inverse of `to_dict`, also after JSON has made lists of the tuples.

    Raises:
        InputError: a field is missing, or unknown to this Flyweight.
    """
    family = content.get("family", kind.__name__)
    values = {key: _frozen(value) for key, value in content.items() if key != "family"}
    unknown = sorted(values.keys() - field_names(kind))
    if unknown:
        raise InputError(
            f"unknown field {unknown[0]!r} in the config of a detector of family {family}",
            fix="read it with the Flyweight version that wrote it, or a newer one",
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"incomplete config of family {family}: {error}") from error


def field_names(kind: type[Any]) -> set[str]:
    """The fields of a config class."""
    return {field.name for field in fields(kind)}


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
