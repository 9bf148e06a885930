"""What MkDocs makes while it builds the site, so that no copy of it is kept and none goes stale.

- a page for every verb, from the command line itself (`verbs.py`);
- pages for every public Python call and its types, from the code (`python_calls.py`);
- README's measured figures wherever a page says `<!-- readme: TITLE -->` (`readme_figures.py`);
- the table of recipes, from `flyweight.training.recipes` (`recipes_table.py`);
- the Pareto plot of our own benchmarks (`pareto.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pareto
import python_calls
import readme_figures
import recipes_table
import verbs
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
COMMANDS = "reference/commands/"


def on_config(config: Any) -> Any:
    """Puts the page of every verb into the navigation, behind the overview."""
    overview = f"{COMMANDS}index.md"
    for entries in _lists(config.nav):
        if overview in entries:
            entries += [{verb.name: COMMANDS + verb.page} for verb in verbs.all_verbs()]
    return config


def _lists(nav: Any) -> list[list[Any]]:
    """The navigation's lists, outer ones first."""
    if isinstance(nav, list):
        return [nav, *(found for entry in nav for found in _lists(entry))]
    if isinstance(nav, dict):
        return [found for entry in nav.values() for found in _lists(entry)]
    return []


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and the picture that are made from the code and from benchmark results."""
    made = {
        f"{COMMANDS}index.md": verbs.overview(),
        **{COMMANDS + verb.page: verb.markdown() for verb in verbs.all_verbs()},
        "reference/python.md": python_calls.calls_page(),
        "reference/types.md": python_calls.types_page(ROOT),
        "pictures/pareto.svg": pareto.pareto_svg(ROOT / "benchmarks" / "results"),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Puts README's figures and the recipes where the page asks for them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return recipes_table.fill(readme_figures.fill(markdown, readme, where=page.file.src_path))
