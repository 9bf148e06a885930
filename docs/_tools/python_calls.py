"""Pages for the public Python calls and for what they take and return.

The calls are `flyweight.__all__`; the types are those that the signatures of `flyweight/api.py`
name, and whatever its docstrings send the reader to. So neither list is kept by hand.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import flyweight
import flyweight.api

MENTIONED = re.compile(r"`(flyweight(?:\.\w+)+)`")


def calls_page() -> str:
    """Every public call, as mkdocstrings finds it."""
    lines = [
        "# Python",
        "",
        "```python",
        "import flyweight as fw",
        "```",
        "",
        "Each call does what the verb of its name does. What they are given and give back is on",
        "[Types and options](types.md).",
        "",
    ]
    for name in filter(_is_call, flyweight.__all__):
        path = _home(name)
        lines += [f"::: {path}", "    options:", f"      heading: fw.{name}", ""]
        said = inspect.getdoc(_object(name)) or ""
        behind = [each for each in MENTIONED.findall(said) if not _is_module(each)]
        links = ", ".join(f"[`{each}`][{each}]" for each in dict.fromkeys(behind))
        lines += [f"All options: {links}.", ""] if links else []
    return "\n".join(lines)


def _is_call(name: str) -> bool:
    return not name.startswith("__")


def _home(name: str) -> str:
    """Where a public name is defined."""
    found = _object(name)
    return f"{found.__module__}.{found.__qualname__}"


def _object(name: str) -> Any:
    """The function or class: `flyweight.export` is also the room of that name."""
    return vars(flyweight.api).get(name) or getattr(flyweight, name)


def types_page(root: Path) -> str:
    """What the calls take and return, and the functions behind them with all their options."""
    public = {_home(name) for name in filter(_is_call, flyweight.__all__)}
    source = (root / "flyweight" / "api.py").read_text(encoding="utf-8")
    named = [*_signature_types(source), *MENTIONED.findall(source)]
    shown = [path for path in dict.fromkeys(named) if path not in public and not _is_module(path)]
    lines = ["# Types and options", "", "What the [calls](python.md) take and return.", ""]
    for path in sorted(shown, key=lambda path: path.rpartition(".")[2].lower()):
        name = path.rpartition(".")[2]
        # where it is imported from: two of them are called Predictor
        lines += [
            f"::: {path}",
            "    options:",
            f"      heading: {path}",
            f"      toc_label: {name}",
        ]
        lines += [""]
    return "\n".join(lines)


def _signature_types(source: str) -> list[str]:
    """Names that `api.py` imports for its signatures alone."""
    return [
        f"{statement.module}.{alias.name}"
        for branch in ast.walk(ast.parse(source))
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for statement in branch.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    ]


def _is_module(path: str) -> bool:
    parent, _, name = path.rpartition(".")
    try:
        return inspect.ismodule(importlib.import_module(path))
    except ModuleNotFoundError:
        getattr(importlib.import_module(parent), name)  # a docstring that names nothing: an error
        return False
