"""The page as a folder: whole, or not there."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from flyweight.core.errors import InputError
from flyweight.web_page import folder as folder_module
from flyweight.web_page.folder import write_folder
from flyweight.web_page.onnxruntime_web import FILES
from flyweight.web_page.page_files import HEADERS, STATIC
from tests.runtime.conftest import colour_model


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Files of the names of onnxruntime-web's."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(name)
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_that_a_page_needs(colour_file: Path, runtime: Path, tmp_path: Path) -> None:
    out = write_folder(colour_file, tmp_path / "a" / "page", onnxruntime_web=runtime)
    names = names_in(out)
    assert names_in(STATIC) | {f"runtime/{name}" for name in FILES} <= names
    assert "runtime/LICENSE-onnxruntime.txt" in names
    assert (out / "model.onnx").read_bytes() == colour_file.read_bytes()
    config = json.loads((out / "config.json").read_text())
    assert config["engines"] == ["browser"]
    assert config["manifest"]["thresholds"]["score"] == 0.1
    headers = (out / "_headers").read_text()
    assert all(f"{name}: {value}" in headers for name, value in HEADERS.items())
    assert [path.name for path in out.parent.iterdir()] == ["page"]  # nothing beside it
    # what a page without a server's headers is held to, but for what a page cannot say itself
    policy = HEADERS["Content-Security-Policy"].replace("; frame-ancestors 'none'", "")
    assert policy in (out / "index.html").read_text()


def test_no_address_leads_elsewhere() -> None:
    """Everything is relative: the page works under any path of any host."""
    for path in STATIC.rglob("*"):
        if path.suffix in {".html", ".css", ".js"}:
            assert "://" not in path.read_text(encoding="utf-8"), path


def test_another_page_takes_its_place(colour_file: Path, runtime: Path, tmp_path: Path) -> None:
    out = write_folder(colour_file, tmp_path / "page", onnxruntime_web=runtime)
    (out / "left").write_text("over")
    again = tmp_path / "again.onnx"
    onnx.save(colour_model(class_names=("x", "y", "z")), again)
    write_folder(again, out, onnxruntime_web=runtime)
    assert json.loads((out / "config.json").read_text())["manifest"]["class_names"][0] == "x"
    assert not (out / "left").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"page", "runtime", "again.onnx"}


def test_what_is_somebody_elses_stays(colour_file: Path, runtime: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    write_folder(colour_file, theirs, onnxruntime_web=runtime)  # empty: taken
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    for target in (other, other / "thesis.tex"):
        with pytest.raises(InputError, match=r"something else|a file of this name"):
            write_folder(colour_file, target, onnxruntime_web=runtime)
    assert names_in(other) == {"thesis.tex"}


def test_a_full_disk_leaves_the_old_page(
    colour_file: Path, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_folder(colour_file, tmp_path / "page", onnxruntime_web=runtime)
    before = names_in(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "copy_onnxruntime_web", full)
    with pytest.raises(InputError, match="disk is full"):
        write_folder(colour_file, out, onnxruntime_web=runtime)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.xml", b"<net/>", "the page runs .onnx files"),
        ("model.onnx", b"no model", "truncated, or is no ONNX"),
        ("model.onnx", None, "does not exist"),
    ],
)
def test_models_that_cannot_run(
    name: str, content: bytes | None, words: str, runtime: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        write_folder(tmp_path / name, tmp_path / "page", onnxruntime_web=runtime)
    assert not (tmp_path / "page").exists()
