"""README's measured figures, which `benchmarks/figures.py` writes, for other pages to show."""

from __future__ import annotations

import re

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ASKED = re.compile(r"^<!-- readme: (.+?) -->$", re.MULTILINE)
TITLE = re.compile(r"^\*\*(.+?)\*\*", re.MULTILINE)


def fill(markdown: str, readme: str, *, where: str) -> str:
    """The page with each `<!-- readme: TITLE -->` replaced by that section, `all` by all of them.

    Raises:
        KeyError: README has no such section.
    """
    if not ASKED.search(markdown):
        return markdown
    found = sections(readme)

    def section(match: re.Match[str]) -> str:
        title = match[1]
        if title not in found:
            raise KeyError(f"{where}: README has no figures {title!r}, only {', '.join(found)}")
        return found[title]

    return ASKED.sub(section, markdown)


def sections(readme: str) -> dict[str, str]:
    """Title → text and tables, and under `all` everything, with links as `docs/` needs them."""
    whole = readme.split(BEGIN)[1].split(END)[0].strip()
    # `[docs/x.md](docs/x.md)` is read from within docs
    whole = re.sub(r"\[docs/([\w.]+)\]", r"[\1]", whole).replace("](docs/", "](")
    starts = [match.start() for match in TITLE.finditer(whole)]
    pieces = [whole[a:b] for a, b in zip(starts, [*starts[1:], len(whole)], strict=True)]
    machine = whole[: starts[0]].strip()
    by_title = {match[1]: piece.strip() for piece in pieces if (match := TITLE.match(piece))}
    return {"all": whole, "machine": machine, **by_title}
