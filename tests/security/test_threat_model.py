"""SECURITY.md: every threat names its tests, and no test here goes unnamed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[str]:
    """The lines of the threat tables, without their heads."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    lines = text.split("## Threats")[1].splitlines()
    tables = [line for line in lines if line.startswith("|") and not line.startswith("|---")]
    return [line for line in tables if not line.startswith("| What is tried")]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_every_line_names_a_test_that_there_is() -> None:
    assert len(rows()) > 30
    for row in rows():
        named = NAMED.findall(row)
        assert named, f"no test: {row}"
        for file, test in named:
            assert (ROOT / file).is_file(), row
            assert test in names_in(ROOT / file), (test, row)


def test_every_test_is_named() -> None:
    named = {(ROOT / file, test) for row in rows() for file, test in NAMED.findall(row)}
    there = {
        (path, test)
        for path in HERE.glob("test_*.py")
        if path != Path(__file__)
        for test in names_in(path)
        if test.startswith("test_")
    }
    assert there - named == set()
