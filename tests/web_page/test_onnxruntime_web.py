"""Where onnxruntime-web is looked for, and what npm must bring."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.web_page import onnxruntime_web
from flyweight.web_page.onnxruntime_web import (
    FILES,
    cache_folder,
    find_onnxruntime_web,
    get_onnxruntime_web,
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the package and without npm."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work" / "deep").mkdir(parents=True)
    monkeypatch.delenv("FLYWEIGHT_ONNXRUNTIME_WEB", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(onnxruntime_web.shutil, "which", which_in(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "work" / "deep")


def which_in(folder: Path) -> object:
    return lambda name: str(folder / name) if (folder / name).exists() else None


def place(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(name)
    return folder


def test_the_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_onnxruntime_web() is None
    cached = place(cache_folder())
    assert find_onnxruntime_web() == cached
    package = place(tmp_path / "work" / "node_modules" / "onnxruntime-web" / "dist")
    assert find_onnxruntime_web() == package
    named = place(tmp_path / "named")
    monkeypatch.setenv("FLYWEIGHT_ONNXRUNTIME_WEB", str(named))
    assert find_onnxruntime_web() == named
    assert find_onnxruntime_web(package.parent) == package
    with pytest.raises(InputError, match="no onnxruntime-web in the folder"):
        find_onnxruntime_web(tmp_path)


def fake_npm(tmp_path: Path, content: bytes, *, status: int = 0) -> None:
    """An npm that packs `content`, whatever it is asked for."""
    (tmp_path / "package.tgz").write_bytes(content)
    script = tmp_path / "bin" / "npm"
    script.write_text(
        "#!/bin/sh\n"
        f'cp "{tmp_path / "package.tgz"}" "onnxruntime-web-{onnxruntime_web.VERSION}.tgz"\n'
        f'echo "$@" > "{tmp_path / "asked"}"\n'
        f"exit {status}\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)


def archive() -> bytes:
    """The package, with a stranger in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as package:
        for name in (*(f"package/dist/{name}" for name in FILES), "package/../../../escaped"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            package.addfile(entry, io.BytesIO(b"code"))
    return stream.getvalue()


def test_npm_brings_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(onnxruntime_web, "SHA512", digest)
    fake_npm(tmp_path, content)
    found = get_onnxruntime_web()
    assert sorted(os.listdir(found)) == sorted(FILES)
    assert (found / FILES[0]).read_bytes() == b"code"
    asked = (tmp_path / "asked").read_text()
    assert f"pack onnxruntime-web@{onnxruntime_web.VERSION} --ignore-scripts" in asked
    assert os.listdir(found.parent) == [found.name]  # nothing is left beside it
    assert not list(tmp_path.rglob("escaped"))
    (tmp_path / "bin" / "npm").unlink()
    assert get_onnxruntime_web() == found


def test_another_package_is_refused(tmp_path: Path) -> None:
    fake_npm(tmp_path, archive())  # its digest is not that of the one that was published
    with pytest.raises(InputError, match="as published"):
        get_onnxruntime_web()
    assert not cache_folder().exists()


def test_npm_fails_or_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"npm is not there.*FLYWEIGHT_ONNXRUNTIME_WEB"):
        get_onnxruntime_web()
    fake_npm(tmp_path, b"", status=1)
    with pytest.raises(InputError, match="npm could not fetch"):
        get_onnxruntime_web()
    assert not cache_folder().exists()
