"""The figures of docs/light_networks.md: what makes a network light on this machine.

    python benchmarks/light_networks.py QUESTION ... [--runtime openvino] [--threads 2]
    python benchmarks/light_networks.py all
    python benchmarks/light_networks.py --write

A question takes a minute or two, all of them a quarter of an hour. Each is kept by itself in
`results/light_networks.json`, a runtime that is measured alone beside the others; then the tables
between the article's markers and its pictures are written anew, which `--write` does alone.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from machine import RESULTS, write_result
from questions import QUESTIONS
from questions.timing import LABELS, Setting

from flyweight.core.files import write_atomically

NAME = "light_networks"
DOCS = Path(__file__).parents[1] / "docs"
ARTICLE = DOCS / f"{NAME}.md"
# A table of the article and what stands between its markers.
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Measure what is asked for, keep it, write the article's tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("questions", nargs="*", metavar="QUESTION")
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=list(LABELS),
        help="by default all that the question is about",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="of measuring a question")
    parser.add_argument("--write", action="store_true", help="the article's tables alone")
    options = parser.parse_args()
    unknown = set(options.questions) - {*QUESTIONS, "all"}
    if unknown or not (options.questions or options.write):
        parser.error(f"give a question ({', '.join(QUESTIONS)}), `all`, or --write")
    kept = load()
    names = list(QUESTIONS) if "all" in options.questions else options.questions
    for name in names:
        question = QUESTIONS[name]
        setting = Setting(
            tuple(options.runtime or question.runtimes), options.threads, options.seconds
        )
        found = {"threads": setting.threads, **question.measure(setting)}
        kept[name] = merged(kept.get(name, {}), found)
        write_result(NAME, {"questions": kept})
        print(f"## {name} {disturbance(found)}")
        for title, table in question.tables(kept[name]).items():
            print(f"\n{title}\n{table}")
    write_article()


def load() -> dict[str, Any]:
    """The results of all questions that were measured."""
    path = RESULTS / f"{NAME}.json"
    if not path.is_file():
        return {}
    questions: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["questions"]
    return questions


def machine_line() -> str:
    """What the figures were measured on."""
    content = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    machine, threads = (
        content["machine"],
        {each["threads"] for each in content["questions"].values()},
    )
    versions = ", ".join(
        f"{label} {machine['versions'][package]}" for package, label in LABELS.items()
    )
    sets = ", ".join(machine["instruction_sets"])
    return (
        f"{machine['cores']} cores of an {machine['cpu']} ({sets}), "
        f"{' and '.join(map(str, threads))} threads; {versions}."
    )


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new`, with the times of `old` in columns that were not measured again.

    Only of the same networks with as many threads: others are no longer comparable.
    """
    if old.get("threads") != new["threads"]:
        return new
    before = {row["name"]: row for row in old["rows"]}
    rows = []
    for row in new["rows"]:
        same = before.get(row["name"], {})
        if same.get("mmacs") == row["mmacs"]:
            row = same | row | {"times": same["times"] | row["times"]}
        rows.append(row)
    return old | new | {"rows": rows}


def disturbance(result: dict[str, Any]) -> str:
    """What is to be said where other processes had the cores; empty where they had not."""
    times = [time for row in result["rows"] for time in row["times"].values()]
    disturbed = sum(time["disturbed"] for time in times)
    if not disturbed:
        return ""
    return (
        f"*{disturbed} of these {len(times)} times were taken while other processes used the "
        "machine: preliminary, to be measured again.*"
    )


def tables() -> dict[str, str]:
    """Of all questions that were measured, by the name of their place in the article."""
    kept = load()
    written = {"machine": machine_line()} if kept else {}
    for name, result in kept.items():
        found = QUESTIONS[name].tables(result)
        if warning := disturbance(result):
            last = list(found)[-1]
            found[last] += f"\n\n{warning}"
        written |= found
    return written


def write_article() -> None:
    """Replace what stands between the article's markers, and its pictures."""
    for name, result in load().items():
        for file, svg in QUESTIONS[name].pictures(result).items():
            (DOCS / "pictures" / f"{NAME}_{file}.svg").write_text(svg, encoding="utf-8")
    text = fill(ARTICLE.read_text(encoding="utf-8"), tables())
    with write_atomically(ARTICLE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fill(text: str, tables: dict[str, str]) -> str:
    """`text` with each table at its place; a place that was not measured stays as it is."""

    def filled(place: re.Match[str]) -> str:
        begin, name, end = place.groups()
        return f"{begin}\n{tables[name]}\n\n{end}" if name in tables else place[0]

    return PLACE.sub(filled, text)


if __name__ == "__main__":
    main()
