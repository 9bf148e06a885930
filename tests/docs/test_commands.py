"""Every command of README and of the pages runs as it stands there, but for `cheaper.py`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import pytest
import typer

from flyweight.cli.main import app
from tests.cli.conftest import run_command
from tests.docs import cheaper
from tests.docs.blocks import ROOT, Block, blocks, flyweight_words, pages, runnable

# Languages of blocks that are shown, not run.
SHOWN = {"text", "yaml", "json", "cpp", "cmake", "js", "javascript", "html", "kotlin", "toml"}
# Options that the pages name and that are not flyweight's own.
FOREIGN_OPTIONS = {"--help", "--nproc-per-node", "--foreign", "--no-deps"}
FOREIGN_PAGES = {"docs/migration.md"}


def as_parameters() -> list[Any]:
    """Each block twice where some of its commands are slow: without them, and the whole."""
    parameters = []
    for block in runnable():
        parts = [block.text] if block.language == "python" else block.commands
        slow = [cheaper.is_slow(part) for part in parts]
        if not all(slow):
            parameters.append(pytest.param(block, False, id=block.name))
        if any(slow):
            name = f"{block.name} whole"
            parameters.append(pytest.param(block, True, id=name, marks=pytest.mark.slow))
    return parameters


@pytest.mark.parametrize(("block", "whole"), as_parameters())
def test_a_block_runs(block: Block, whole: bool, place: Path) -> None:
    if block.reason:
        pytest.skip(f"not run: {block.reason}")
    if block.language == "python":
        if reason := cheaper.reason_not_to_run(block.text):
            pytest.skip(f"not run: {reason}")
        run_python(block)
        return
    reasons = {command: cheaper.reason_not_to_run(command) for command in block.commands}
    if all(reasons.values()):
        pytest.skip(f"not run: {'; '.join(dict.fromkeys(reasons.values()))}")
    commands = [
        command
        for command, reason in reasons.items()
        if not reason and (whole or not cheaper.is_slow(command))
    ]
    for command in commands:
        make_way(flyweight_words(command) or [])
    for command in commands:
        run_shell(command)


def make_way(words: list[str]) -> None:
    """Remove what was prepared where a command that wants a new folder will make it."""
    makes_a_folder = words[:1] in (["train"], ["pretrain"]) or words[:1] == ["data"]
    if makes_a_folder and "--out" in words and "--resume" not in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)


def run_python(block: Block) -> None:
    """In this process, with the names that the text around the block has introduced."""
    source = cheaper.cheaper_python(block.text)
    names = {"__name__": "__main__", **known_names(source)}
    for out in re.findall(r'fw\.train\([^,]+, [^,]+, "([^"]+)"', source):
        shutil.rmtree(out, ignore_errors=True)
    exec(compile(source, block.name, "exec"), names)


def known_names(source: str) -> dict[str, Any]:
    """`fw`, and what the text calls the detector, the data and the batches."""
    import flyweight as fw

    names: dict[str, Any] = {"fw": fw}
    if "detector" in source:
        names["detector"] = fw.load("runs/first/best.safetensors")
    if "train_set" in source:
        for split in ("train", "val"):
            names[f"{split}_set"] = fw.open_dataset("my_data", split)
    if "batches" in source:
        from flyweight.core.image import read_image

        images = [read_image(each.path) for each in names["train_set"].records[:4]]
        apply = names["detector"].preprocessing.apply
        names["batches"] = [apply(image)[0][None] for image in images]
    return names


def run_shell(command: str) -> None:
    """`flyweight` in this process, anything else in bash."""
    words = flyweight_words(command)
    if words is None:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-ec", command], capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return
    expanded = [each for word in words for each in (sorted(glob(word)) or [word])]
    outcome = run_command(*cheaper.cheaper_words(expanded))
    assert outcome.code == 0, f"flyweight {' '.join(expanded)}\n{outcome.out}{outcome.err}"


def flyweight_calls() -> Iterator[Any]:
    for block in runnable():
        if block.language == "python":
            continue
        for command in block.commands:
            words = flyweight_words(command)
            if words is not None:
                yield pytest.param(words, id=f"{block.name} {' '.join(words[:2])}")


@pytest.mark.parametrize("words", list(flyweight_calls()))
def test_a_call_is_one_that_flyweight_understands(words: list[str]) -> None:
    """Also those that are slow or not run: verbs, options and their values are there."""
    command: Any = typer.main.get_command(app)
    rest = words
    while hasattr(command, "commands"):
        assert set(rest[:1]) & set(command.commands), f"no verb {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.make_context("flyweight", list(rest))
    assert context.params


@pytest.mark.parametrize(
    "block",
    [pytest.param(each, id=each.name) for each in runnable() if each.language == "python"],
)
def test_python_compiles(block: Block) -> None:
    compile(block.text, block.name, "exec")


def test_every_block_says_what_it_is() -> None:
    """A block is run, shown, or says why neither."""
    unknown = {
        f"{each.name}: {each.language}"
        for each in blocks()
        if each.language not in {*SHOWN, "sh", "bash", "console", "python"}
    }
    assert not unknown, "say sh, python, or text"
    empty = [each.name for each in runnable() if each.language != "python" and not each.commands]
    assert not empty


def test_every_exception_is_still_of_use() -> None:
    """What `cheaper.py` lists occurs on some page, so that the list does not grow old."""
    text = "\n".join(each.text for each in runnable())
    unused = [
        part
        for part in (*cheaper.NOT_RUN, *cheaper.NEEDS, *cheaper.SLOW)
        if part.strip() not in text
    ]
    assert not unused
    for pattern in cheaper.PYTHON:
        assert re.search(pattern, text), pattern


def test_options_named_in_prose_exist() -> None:
    """`--option` in running text is an option of some verb."""
    known = set(FOREIGN_OPTIONS)
    remaining = [typer.main.get_command(app)]
    while remaining:
        command: Any = remaining.pop()
        remaining += getattr(command, "commands", {}).values()
        for parameter in command.params:
            known.update(parameter.opts, parameter.secondary_opts)
    for page in pages():
        name = page.relative_to(ROOT).as_posix()
        if name in FOREIGN_PAGES:
            continue
        prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for code in re.findall(r"`([^`\n]+)`", prose):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code):
                assert option in known, f"{name}: {code}"
