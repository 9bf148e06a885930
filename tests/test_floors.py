"""Imports go strictly down the floors of the house (docs/design.md), and torch stays upstairs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flyweight"

FLOORS = {
    "core": 0,
    "transforms": 1,
    "data": 1,
    "evaluation": 1,
    "reports": 1,
    "runtime": 1,
    "web_page": 1,
    "models/ops": 2,
    "models/layers": 2,
    "models/backbones": 3,
    "models/necks": 3,
    "models/heads": 3,
    "models/matching": 3,
    "models/losses": 3,
    "models/conversion": 3,
    "models/pretrained": 3,
    "models/detectors": 4,
    "training": 5,
    "profiling": 5,
    "compression": 6,
    "labeling": 6,
    "export": 7,
    "pipeline": 8,
    "cli": 9,
    "server": 9,
}
# Rooms on one floor that may use each other, in this direction only.
NEIGHBOURS = {
    ("data", "transforms"),
    ("evaluation", "data"),
    ("web_page", "runtime"),
    ("models/pretrained", "models/conversion"),
    ("models/pretrained", "models/backbones"),
    ("cli", "server"),
}
TORCH_FREE = {
    "core",
    "transforms",
    "data",
    "evaluation",
    "reports",
    "runtime",
    "server",
    "web_page",
}
TORCH = {"torch", "torchvision", "lightning"}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def room_of(module: str) -> str | None:
    """The room that a dotted module of the package belongs to."""
    parts = module.split(".")[1:]
    if not parts:
        return None
    if parts[0] == "models":
        return "/".join(parts[:2]) if len(parts) > 1 else "models"
    return parts[0]


def imports_of(path: Path) -> list[str]:
    """Dotted names of all modules that a file imports, inside functions too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_every_file_has_a_room() -> None:
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES]
    rooms = {room_of(module.removesuffix(".__init__")) for module in modules}
    assert rooms - {"models"} <= set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    here = room_of(module.removesuffix(".__init__"))
    if here == "models":
        here = "models/detectors"
    assert here is not None
    for name in imports_of(path):
        if name.split(".")[0] in TORCH and here in TORCH_FREE:
            pytest.fail(f"{here} imports {name}: this floor runs without torch")
        there = room_of(name) if name.startswith("flyweight.") else None
        if there is None or there == here or there not in FLOORS:
            continue
        down = FLOORS[there] < FLOORS[here]
        assert down or (here, there) in NEIGHBOURS, f"{here} may not import {there} ({name})"


def test_import_is_light() -> None:
    code = (
        "import sys, flyweight; "
        "print([m for m in ('torch', 'cv2', 'onnxruntime', 'rich') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
