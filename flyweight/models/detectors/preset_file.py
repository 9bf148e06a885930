"""A preset of one's own: a model of the zoo and the fields in which it differs, as a YAML file.

    model: ssdlite
    backbone: mobilenet_v1
    width: 0.75
    size_hw: [256, 256]

It stands wherever a name of the zoo does: `flyweight train PRESET.yaml`, `flyweight profile
PRESET.yaml`, `flyweight.build("PRESET.yaml", ...)`. Classes are the data's, so it has none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.yaml_file import read_yaml

SUFFIXES = (".yaml", ".yml")
# The data's, not the architecture's.
NOT_IN_A_FILE = ("name", "family", "num_classes", "folded")


@dataclass(frozen=True)
class Preset:
    """What a file says.

    Attributes:
        model: a name of the zoo.
        fields: of its config, where they differ from the zoo's; JSON's lists are tuples.
    """

    model: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def is_preset_file(name: str | os.PathLike[str]) -> bool:
    """Whether a model is given by a file of this kind rather than by its name."""
    return Path(name).suffix in SUFFIXES


def read_preset(path: str | os.PathLike[str]) -> Preset:
    """The preset in a file.

    Raises:
        InputError: there is no such file, or it names no model.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise InputError("no such preset file", where=path, fix="check the path") from error
    except OSError as error:
        raise InputError("this preset file cannot be read", where=path, fix=_FORM) from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), str):
        raise InputError("a preset file names a model of the zoo", where=path, fix=_FORM)
    fields = {str(key): _frozen(value) for key, value in content.items() if key != "model"}
    for name in NOT_IN_A_FILE:
        if name in fields:
            raise InputError(f"{name} is no field of a preset file", where=path, fix="leave it out")
    return Preset(content["model"], fields)


def write_preset(preset: Preset, path: str | os.PathLike[str], *, about: str = "") -> None:
    """Write a file that `read_preset` reads; `about` goes before it as a comment.

    Raises:
        InputError: the folder cannot be written to, the disk is full, or the suffix is another.
    """
    if not is_preset_file(path):
        raise InputError("a preset file ends in .yaml", where=path, fix="name it PRESET.yaml")
    content = {"model": preset.model, **preset.fields}
    lines = [f"# {line}".rstrip() + "\n" for line in about.splitlines()]
    lines += [_as_yaml(name, _listed(value)) for name, value in content.items()]
    with write_atomically(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _as_yaml(name: str, value: Any) -> str:
    # The innermost lists in one line each: boxes read as pairs.
    style = None if isinstance(value, list) else False
    text: str = yaml.safe_dump(
        {name: value}, allow_unicode=True, width=100, default_flow_style=style
    )
    return text


_FORM = "write `model: NAME` and other fields of its config as `field: value`"


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value
