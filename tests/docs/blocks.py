"""The fenced blocks of README and of the pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^ *```\s*$", re.M | re.S
)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>(?:(?!-->).)+?) -->\s*\Z", re.S)
SHELLS = ("sh", "bash", "console")
# what bash alone understands
SHELL_SYNTAX = re.compile(r"[|><;&]|\$\(|^\w+=")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, what it is, and why it is not run, if it says so."""

    page: str
    line: int
    language: str
    text: str
    reason: str

    @property
    def name(self) -> str:
        """Page and line, for the test's name."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell block, continued lines joined, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":  # only what follows a prompt is a command
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        bare = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
        return [" ".join(line.split()) for line in bare if line]


def pages() -> list[Path]:
    """README and all pages of the site that are written by hand."""
    folder = ROOT / "docs"
    found = sorted(path for path in folder.rglob("*.md") if "_tools" not in path.parts)
    return [ROOT / "README.md", *found]


def blocks() -> Iterator[Block]:
    """Every fenced block of every page."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            before = NOT_RUN.search(text[: match.start()])
            indent = len(match["indent"])
            page = path.relative_to(ROOT).as_posix()
            yield Block(
                page,
                text.count("\n", 0, match.start()) + 1,
                match["language"] or "",
                "".join(line[indent:] for line in match["text"].splitlines(keepends=True)),
                before["reason"] if before else "",
            )


def runnable() -> list[Block]:
    """The blocks that a reader would paste into a shell or into Python."""
    return [block for block in blocks() if block.language in (*SHELLS, "python")]


def flyweight_words(command: str) -> list[str] | None:
    """The arguments of a plain call of `flyweight`, None of anything else."""
    if SHELL_SYNTAX.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", command)):
        return None
    words = shlex.split(command)
    program = words[0].removeprefix(".venv/bin/")
    return words[1:] if program == "flyweight" else None
