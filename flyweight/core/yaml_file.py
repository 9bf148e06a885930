"""YAML that others wrote: plain values only, and never more of them than the file is long.

`yaml.safe_load` runs no code, but an alias (`*name`) stands for all of what it names: nine lines of
nine aliases are a thousand million entries as soon as something walks through them, and merged
mappings (`<<`) are walked through while they are read.
"""

from __future__ import annotations

import os
from typing import Any

from flyweight.core.errors import InputError
from flyweight.core.given_file import read_given

MAX_BYTES = 16 << 20
MAX_VALUES = 1_000_000


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The content of a YAML file; aliases are allowed as long as what they stand for is small.

    Raises:
        OSError: it cannot be read.
        InputError: it is broken, too large, no file, or stands for more than `MAX_VALUES` values.
    """
    import yaml

    content = read_given(path, most_bytes=MAX_BYTES)
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        if root is None:
            return None
        if _values(root, {}) > MAX_VALUES:
            raise InputError(
                f"the YAML stands for more than {MAX_VALUES} values",
                where=path,
                fix="write what its aliases stand for",
            )
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{os.fspath(path)}, line {mark.line + 1}" if mark else path
        what = f"broken YAML ({getattr(error, 'problem', None) or 'not text'})"
        raise InputError(what, where=where, fix="repair that line") from error
    except RecursionError as error:
        raise InputError("YAML that is nested too deeply", where=path) from error
    # numbers and dates that are none, keys that cannot be keys
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise InputError(f"broken YAML ({str(error)[:80]})", where=path) from error


def _values(node: Any, known: dict[int, float]) -> float:
    """How many values a node stands for, aliases written out; infinite where it holds itself."""
    if id(node) in known:
        return known[id(node)]
    if isinstance(node.value, str):
        return 1
    known[id(node)] = float("inf")
    parts = (part for entry in node.value for part in (entry if type(entry) is tuple else (entry,)))
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
