"""Every verb of `flyweight` as a page: what it does, its arguments and options, their defaults."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

import typer

from flyweight.cli.main import app

TYPE = re.compile(r" <(?:list\[)?(\w+)[^>]*>")


@dataclass(frozen=True)
class Verb:
    """One command: its words behind `flyweight`, and typer's own object."""

    name: str
    command: Any

    @property
    def page(self) -> str:
        """File name of the page."""
        return self.name.replace(" ", "_") + ".md"

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return " ".join(self.command.help.split("\n\n")[0].split())

    def markdown(self) -> str:
        """The page."""
        context = self.command.context_class(self.command, info_name=f"flyweight {self.name}")
        usage = " ".join([context.info_name, *self.command.collect_usage_pieces(context)])
        lines = [f"# flyweight {self.name}", ""]
        for paragraph in self.command.help.split("\n\n"):
            lines += [_text(" ".join(paragraph.split())), ""]
        lines += ["```text", usage, "```", ""]
        parameters = [each for each in self.command.params if not getattr(each, "hidden", False)]
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            rows = [_row(each, context) for each in parameters if each.param_type_name == kind]
            if rows:
                head = f"| {kind} | what it means |"
                lines += [f"## {title}", "", head, "|---|---|", *rows, ""]
        return "\n".join(lines)


def all_verbs() -> list[Verb]:
    """The verbs in the order of `flyweight --help`."""
    return _below(typer.main.get_command(app), ())


def _below(command: Any, words: tuple[str, ...]) -> list[Verb]:
    children = getattr(command, "commands", None)
    if children is None:
        return [Verb(" ".join(words), command)]
    return [verb for name, child in children.items() for verb in _below(child, (*words, name))]


def overview() -> str:
    """The page that lists the verbs."""
    rows = [f"| [`{verb.name}`]({verb.page}) | {_text(verb.summary)} |" for verb in all_verbs()]
    return "\n".join(
        [
            "# Commands",
            "",
            "Made from the command line itself: what `flyweight VERB --help` says.",
            "",
            "| verb | what it does |",
            "|---|---|",
            *rows,
            "",
            "Every verb takes `--json`, which prints one JSON object on stdout and all else on",
            "stderr. It exits with 0 when it is done, 1 when a check did not hold, 2 on bad input,",
            "which prints one `error:` line and leaves nothing half written, and 130 after Ctrl-C.",
            "`--debug` shows the traceback of an error.",
            "",
        ]
    )


def _row(parameter: Any, context: Any) -> str:
    """A row of the table: how it is written, what it does and what holds without it."""
    record = parameter.get_help_record(context)
    written, said = record if record else (parameter.name, parameter.help or "")
    kind = "" if parameter.param_type_name == "argument" else r" \1"
    # typer writes `--size <int range>` and `FILE <path>`
    written = TYPE.sub(lambda match: match.expand(kind).upper(), " ".join(written.split()))
    # a long choice may break behind its bars
    cell = html.escape(written).replace("|", "&#124;<wbr>")
    return f"| <code>{cell}</code> | {_text(said)} |"


def _text(said: str) -> str:
    """Help as Markdown shows it, letter by letter."""
    escaped = html.escape(" ".join(said.split()), quote=False)
    return "".join(f"&#{ord(letter)};" if letter in "|*_`[]" else letter for letter in escaped)
