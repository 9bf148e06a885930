"""`flyweight eval` with several files, and its page; one file is in test_verbs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_files_are_compared_with_the_first(
    flyweight: Run, tiny_data: Path, tiny_run: tuple[Path, Any], tiny_onnx: Path
) -> None:
    out, _ = tiny_run
    files = [out / "best.safetensors", tiny_onnx]
    words = ("--data", tiny_data, "--resamples", "100")
    found = flyweight("eval", *files, *words, "--json").json
    alone = flyweight("eval", files[0], "--data", tiny_data, "--json").json
    first, second = found["models"]
    assert first == {"file": str(files[0])} | alone
    assert found["images"] == 3
    assert found["resamples"] == 100
    # an export finds what its checkpoint finds
    for interval in found["difference"].values():
        assert set(interval) == {"value", "low", "high"}
        assert interval["low"] == pytest.approx(0, abs=0.02)
    assert found["difference"] == second["difference"]
    assert found["verdict"] == second["verdict"]
    assert str(tiny_onnx) in found["verdict"]
    again = flyweight("eval", *files, *words)
    assert found["verdict"] in again.out.replace("\n", " ").replace("  ", " ")


def test_a_file_does_not_differ_from_itself(
    flyweight: Run, tiny_data: Path, tiny_onnx: Path
) -> None:
    files = [tiny_onnx] * 3
    found = flyweight("eval", *files, "--data", tiny_data, "--resamples", "100", "--json").json
    assert "difference" not in found  # which of the two would it be?
    for model in found["models"][1:]:
        assert model["difference"]["AP"] == {"value": 0, "low": 0, "high": 0}
        assert model["more_than_chance"] is False


def test_the_page_of_one_file(
    flyweight: Run, tiny_data: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    page = tmp_path / "new" / "page.html"
    words = ("eval", tiny_onnx, "--data", tiny_data)
    found = flyweight(*words, "--report", page, "--json").json
    alone = flyweight(*words, "--json").json
    assert alone == {key: found[key] for key in alone}
    assert set(found) - set(alone) == {"report", "errors"}
    assert found["report"] == str(page)
    for each in found["errors"].values():
        assert each["AP50_gain"] >= 0
    assert "<h2>Errors</h2>" in page.read_text(encoding="utf-8")


def test_a_page_of_several_files_is_refused(
    flyweight: Run, tiny_data: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    words = ("--data", tiny_data, "--report", page)
    flyweight("eval", tiny_onnx, tiny_onnx, *words).assert_refused("--report is of one file")
    assert not page.exists()
    words = ("--data", tiny_data, "--report", tmp_path)
    flyweight("eval", tiny_onnx, *words).assert_refused("folder", tmp_path.name)


def test_the_page_of_an_exported_file_needs_no_torch(
    tiny_data: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    words = ["eval", str(tiny_onnx), "--data", str(tiny_data), "--report", str(page)]
    code = (
        "import sys\nfrom flyweight.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(r"^False$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert page.exists()
