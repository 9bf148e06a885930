"""Compression in stages: each takes the file of the one before and leaves one of its own.

A stage that is finished says so in its folder, with the settings and the input that it was made
from; where neither has changed it is not made again. So a run that was interrupted goes on with the
stage that it had reached, and one with another stage at its end makes that one only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyweight.core.file_digest import file_sha256
from flyweight.core.files import write_atomically

RECORD = "stage.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        name: of its folder and its row in the ledger.
        settings: all that its result depends on beside its input; JSON-ready.
        make: from the input file and the stage's folder to the file that it leaves there; told
            where to say what it does.
        goes_on: `make` takes up what it finds in its folder; else it gets an empty one.
    """

    name: str
    settings: Mapping[str, Any]
    make: Callable[[Path, Path, Say], Path]
    goes_on: bool = False


@dataclass(frozen=True)
class Made:
    """A stage that is finished."""

    name: str
    file: Path


def run_stages(start: Path, stages: Sequence[Stage], out: Path, *, say: Say) -> list[Made]:
    """Make the stages in order, each from the file of the one before, the first from `start`.

    Args:
        out: a folder for each stage, `1-pruned`, `2-fine-tuned` ..., goes there.
        say: called with a line about each.

    Raises:
        InputError: of a stage, or the folder cannot be written to.
    """
    made: list[Made] = []
    before = start
    for number, stage in enumerate(stages, start=1):
        folder = out / f"{number}-{stage.name.replace(' ', '-')}"
        recipe = {"settings": dict(stage.settings), "input": file_sha256(before)}
        file = _finished(folder, recipe)
        if file is not None:
            say(f"[{number}/{len(stages)}] {stage.name}: done before ({file})")
        else:
            say(f"[{number}/{len(stages)}] {stage.name}")
            _prepare(folder, recipe, keep=stage.goes_on)
            file = stage.make(before, folder, say)
            _write(folder, recipe | {"file": str(file.relative_to(folder))})
        made.append(Made(stage.name, file))
        before = file
    return made


def _record(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _finished(folder: Path, recipe: dict[str, Any]) -> Path | None:
    """The file that a stage of this recipe has left, if it has."""
    record = _record(folder)
    name = record.pop("file", None)
    # What has gone through JSON has lists for tuples.
    if not isinstance(name, str) or record != json.loads(json.dumps(recipe)):
        return None
    file = folder / name
    return file if file.is_file() else None


def _prepare(folder: Path, recipe: dict[str, Any], *, keep: bool) -> None:
    """Empty the folder, but of the same stage's own beginnings where it can go on with them."""
    record = _record(folder)
    record.pop("file", None)
    if not (keep and record == json.loads(json.dumps(recipe))):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, recipe)


def _write(folder: Path, record: dict[str, Any]) -> None:
    with write_atomically(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
