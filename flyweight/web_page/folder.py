"""The page as a folder of files that any web host serves, the model and its runtime inside."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.core.files import scratch_folder, writing_error
from flyweight.core.manifest import Manifest
from flyweight.runtime.onnxruntime_session import OnnxRuntimeSession
from flyweight.web_page.onnxruntime_web import copy_onnxruntime_web, get_onnxruntime_web
from flyweight.web_page.page_files import CONFIG, HEADERS, MODEL, RUNTIME, page_files

# Netlify, Cloudflare Pages and others read the headers of all files from here.
HEADERS_FILE = "_headers"


def write_folder(
    onnx_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    onnxruntime_web: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the page of an exported model; a page that is there already is replaced as a whole.

    Args:
        onnx_path: an .onnx file of `flyweight export`.
        out_dir: the page's folder; `index.html` in it is the page. All addresses are relative.
        onnxruntime_web: a folder with the npm package; see
            `flyweight.web_page.onnxruntime_web.find_onnxruntime_web` for where it is looked for.

    Returns:
        `out_dir`.

    Raises:
        InputError: the model is no such file; `out_dir` holds something else; onnxruntime-web
            cannot be had; the folder cannot be written to.
    """
    source, out = Path(onnx_path), Path(out_dir)
    if source.suffix.lower() != ".onnx":
        raise InputError("the page runs .onnx files", where=source, fix="export to onnx first")
    manifest = OnnxRuntimeSession(source, threads=1).manifest
    _check_replaceable(out)
    runtime = get_onnxruntime_web(onnxruntime_web)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out.parent) as scratch:
            made = scratch / "new"
            for relative, file in page_files().items():
                (made / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, made / relative)
            shutil.copyfile(source, made / MODEL)
            copy_onnxruntime_web(runtime, made / RUNTIME)
            content = page_config(manifest, engines=["browser"])
            (made / CONFIG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            lines = [f"  {key}: {value}" for key, value in HEADERS.items()]
            (made / HEADERS_FILE).write_text("\n".join(["/*", *lines, ""]), encoding="utf-8")
            if out.exists():
                out.rename(scratch / "old")
            made.rename(out)
    except OSError as error:
        raise writing_error(out, error) from error
    return out


def page_config(
    manifest: Manifest, *, engines: list[str], detect: str | None = None
) -> dict[str, Any]:
    """What `config.json` tells the page.

    Args:
        manifest: of the model.
        engines: "browser", "server" or both, the first one first.
        detect: the address of the server's detection, relative to the page's.
    """
    model = {"model": MODEL, "runtime": f"{RUNTIME}/"} if "browser" in engines else {}
    server = {"detect": detect} if detect else {}
    return {"engines": engines, **model, **server, "manifest": json.loads(manifest.to_json())}


def _check_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError("there is a file of this name", where=out, fix="choose another folder")
    ours = (out / CONFIG).is_file() and (out / "index.html").is_file()
    if not ours and any(out.iterdir()):
        raise InputError(
            "the folder holds something else", where=out, fix="choose a new or an empty folder"
        )
