"""Where onnxruntime-web comes from: the npm package, of which three files run a model.

Nothing of it is kept in the repository, and no page loads it from another host.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from flyweight.core.errors import InputError
from flyweight.core.files import scratch_folder, writing_error

VERSION = "1.30.0"
# As the registry says (`npm view onnxruntime-web@1.30.0 dist.integrity`); checked here again.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# WebAssembly with SIMD on the CPU; one thread where the page may not have several.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
LICENCE_FILE = "LICENSE-onnxruntime.txt"
# The package on npm carries no licence file: that of the source, which its headers name.
LICENCE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
VARIABLE = "FLYWEIGHT_ONNXRUNTIME_WEB"
PACKAGE = "onnxruntime-web"
NPM_TIMEOUT_S = 300
MOST_FILE_BYTES = 64 << 20
FIX = f"install npm and connect once, or give a folder with {PACKAGE} in {VARIABLE}"


def find_onnxruntime_web(given: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder that holds `FILES`, or None; nothing is downloaded.

    Looked for in `given`, or else in what the environment variable FLYWEIGHT_ONNXRUNTIME_WEB names,
    in `node_modules` of the current folder and those above, and in the user's cache.

    Raises:
        InputError: the folder that was given, or that the variable names, does not have them.
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        found = _with_files(Path(named))
        if found is None:
            raise InputError(
                f"there is no {PACKAGE} in the folder", where=named, fix=f"it needs {FILES[0]}"
            )
        return found
    here = Path.cwd()
    folders = [above / "node_modules" / PACKAGE for above in (here, *here.parents)]
    return next(filter(None, map(_with_files, [*folders, cache_folder()])), None)


def get_onnxruntime_web(given: str | os.PathLike[str] | None = None) -> Path:
    """As `find_onnxruntime_web`; what is not there is fetched by `npm pack` into the cache.

    Raises:
        InputError: it is not there and cannot be fetched, or what came is not what was published.
    """
    return find_onnxruntime_web(given) or _fetch(cache_folder())


def cache_folder() -> Path:
    """Where the fetched files are kept: $XDG_CACHE_HOME/flyweight, or ~/.cache/flyweight."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "flyweight" / f"{PACKAGE}-{VERSION}"


def copy_onnxruntime_web(source: Path, folder: Path) -> None:
    """Copy `FILES` and their licence from `source` into the new `folder`."""
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
    (folder / LICENCE_FILE).write_text(LICENCE, encoding="utf-8")


def _with_files(folder: Path) -> Path | None:
    """`folder`, or its `dist` as in the package, whichever has `FILES`."""
    for each in (folder / "dist", folder):
        if all((each / name).is_file() for name in FILES):
            return each
    return None


def _fetch(cache: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"{PACKAGE} is not on this machine, and npm is not there", fix=FIX)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(cache.parent) as scratch:
            archive = _pack(npm, scratch)
            files = scratch / "files"
            _unpack(archive, files)
            try:
                files.rename(cache)
            except OSError:
                # Another process was faster; an unfinished folder is never renamed to this one.
                if _with_files(cache) is None:
                    raise
    except OSError as error:
        raise writing_error(cache, error) from error
    return cache


def _pack(npm: str, folder: Path) -> Path:
    """The package's archive in `folder`, its digest checked."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
    try:
        subprocess.run(
            [*command, "--pack-destination", str(folder)],
            cwd=folder,
            capture_output=True,
            timeout=NPM_TIMEOUT_S,
            check=True,
        )
        archive = folder / f"{PACKAGE}-{VERSION}.tgz"
        digest = hashlib.sha512(archive.read_bytes()).digest()
    except (subprocess.SubprocessError, FileNotFoundError) as error:
        raise InputError(f"npm could not fetch {PACKAGE}@{VERSION}", fix=FIX) from error
    if base64.b64encode(digest).decode() != SHA512:
        raise InputError(f"what npm fetched is not {PACKAGE} {VERSION} as published", fix=FIX)
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """`FILES` of the package alone, each read by its name."""
    folder.mkdir()
    with tarfile.open(archive) as package:
        for name in FILES:
            content = package.extractfile(f"package/dist/{name}")
            assert content is not None  # the digest says so
            (folder / name).write_bytes(content.read(MOST_FILE_BYTES))
