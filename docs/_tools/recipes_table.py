"""The table of named recipes, from `flyweight.training.recipes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyweight.training.recipes import RECIPES

ASKED = "<!-- recipes -->"


def fill(markdown: str) -> str:
    """The page with the table where it asks for it."""
    return markdown.replace(ASKED, table()) if ASKED in markdown else markdown


def table() -> str:
    """Name, what it is, and every setting that differs from the default."""
    rows = [
        f"| `{name}` | {recipe.description} | {_shown(recipe.settings)} |"
        for name, recipe in RECIPES.items()
    ]
    head = ["| `--recipe` | what it is | what differs from the default |", "|---|---|---|"]
    kinds = [
        f"- `{name}` of a detector of the family `{kind}` also sets {_shown(options)}."
        for name, recipe in RECIPES.items()
        for kind, options in recipe.options.items()
    ]
    return "\n".join([*head, *rows, "", *kinds])


def _shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={_value(value)}`" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_value, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
