"""The site: complete, true to the code, built without warnings and without a network."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import flyweight
from flyweight.cli.main import app
from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
GENERATED = {"reference/commands/index.md", "reference/python.md", "reference/types.md"}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of `docs/_tools` as the hooks do."""
    monkeypatch.syspath_prepend(str(DOCS / "_tools"))
    return importlib.import_module


def navigation() -> set[str]:
    """Every page that the navigation names."""
    # python tags and the like are mkdocs' own; the navigation is plain
    content = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for each in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(each)

    return set(leaves(content["nav"]))


def test_navigation_names_every_page() -> None:
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert navigation() == written | GENERATED


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)#\s]+)", prose):
            if (
                "://" in target
                or target.startswith("reference/")
                or target == "pictures/pareto.svg"
            ):
                continue  # outside, or made at build time: the strict build looks at these
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_every_verb_has_a_page_with_all_its_options(tool: Any) -> None:
    pages = {verb.name: verb.markdown() for verb in tool("verbs").all_verbs()}
    assert {"train", "export", "data check"} <= set(pages)
    for name, page in pages.items():
        command: Any = typer.main.get_command(app)
        for word in name.split():
            command = command.commands[word]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"<code>{option}" in page, (name, option)


def test_every_public_call_is_documented(tool: Any) -> None:
    calls = tool("python_calls")
    page = calls.calls_page()
    for name in flyweight.__all__:
        assert name.startswith("__") or f"heading: fw.{name}\n" in page
    # every name on both pages can be imported
    shown = re.findall(r"^::: (.+)$", page + calls.types_page(ROOT), re.M)
    assert len(shown) == len(set(shown)) > 20
    for path in shown:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


def test_figures_are_readmes(tool: Any) -> None:
    figures = tool("readme_figures")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    filled = figures.fill("<!-- readme: Exported -->", readme, where="here")
    result = json.loads((ROOT / "benchmarks/results/exported.json").read_text(encoding="utf-8"))
    for name, row in result["rows"].items():
        assert f"| {name} | {row['AP']:.3f} |" in filled
    assert "**From" not in filled
    assert "(docs/" not in figures.sections(readme)["all"]
    with pytest.raises(KeyError, match="here: README has no figures 'Nothing'"):
        figures.fill("<!-- readme: Nothing -->", readme, where="here")


def test_pareto_plot_shows_the_benchmarks(tool: Any) -> None:
    pareto = tool("pareto")
    results = ROOT / "benchmarks" / "results"
    points = pareto.by_macs(results)
    rows = json.loads((results / "detectors_bccd.json").read_text(encoding="utf-8"))["rows"]
    assert len(points) == len(rows) + 3 + 2
    for row in rows:
        assert any(
            (each.price, each.ap) == (row["macs"] / 1e6, row["metrics"]["AP"]) for each in points
        )
    assert {each.label for each in pareto.by_milliseconds(results)} >= {"mobilenet_v2 320"}
    svg = pareto.pareto_svg(results)
    assert svg == pareto.pareto_svg(results)
    for each in points:
        assert each.label in svg


def test_error_lines_of_troubleshooting_are_in_the_code() -> None:
    texts = [
        "".join(
            str(part.value) if isinstance(part, ast.Constant) else "\0"
            for part in (node.values if isinstance(node, ast.JoinedStr) else [node])
        )
        for path in (ROOT / "flyweight").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    ]
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^`([^`]+)`$", page, re.M)
    assert len(quoted) > 10
    for line in quoted:
        pieces = [piece.strip() for piece in line.split("...")]
        assert any(all(piece in text for piece in pieces) for text in texts), line


def test_names_of_torchvision_are_its_own() -> None:
    import inspect

    from torchvision import datasets
    from torchvision.models import get_model_builder
    from torchvision.models.detection.faster_rcnn import FasterRCNN
    from torchvision.models.detection.ssd import SSD

    from flyweight.models.detectors.torchvision_weights import TORCHVISION_MODELS
    from flyweight.models.detectors.zoo import ZOO

    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    for ours, theirs in TORCHVISION_MODELS.items():
        assert re.search(rf"^\| `{ours}` \| `{theirs}` \|", page, re.M), ours
        assert get_model_builder(theirs)
    models = page[page.index("## Models") : page.index("## Training")]
    for name in re.findall(r"^\| `(\w+)` \|", models, re.M):
        assert name in ZOO
    assert {"CocoDetection", "VOCDetection"} <= set(datasets.__all__)
    of_ssd = {*inspect.signature(SSD.__init__).parameters}
    assert of_ssd >= {"score_thresh", "nms_thresh", "topk_candidates", "detections_per_img"}
    of_faster_rcnn = {*inspect.signature(FasterRCNN.__init__).parameters}
    assert of_faster_rcnn >= {"box_score_thresh", "box_nms_thresh", "box_detections_per_img"}


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        # without a network: every address is refused at once
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    built = sorted(tmp_path.rglob("*.html"))
    assert len(built) > len(navigation())
    fetched = re.compile(
        r'<(?:script|img|iframe|source|video)[^>]*\ssrc="?(?:https?:)?//[^">\s]+'
        r'|<link[^>]*rel="?(?:stylesheet|preload|preconnect|icon)[^>]*href="?(?:https?:)?//[^">\s]+'
    )
    for page in built:
        assert not fetched.findall(page.read_text(encoding="utf-8")), page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8"))
    search = json.loads((tmp_path / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any("fine-tune" in entry["text"] for entry in search["docs"])
