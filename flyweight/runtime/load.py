"""Open an exported file as a predictor."""

from __future__ import annotations

import os
from pathlib import Path

from flyweight.core.errors import InputError
from flyweight.runtime.predictor import Predictor
from flyweight.runtime.session import Session

RUNTIMES = ("onnxruntime", "openvino")
EXPORTED_SUFFIXES = (".onnx", ".xml")


def load_predictor(
    path: str | os.PathLike[str], *, threads: int | None = None, runtime: str | None = None
) -> Predictor:
    """Open an exported file; torch is neither needed nor loaded.

    Args:
        path: .onnx, or OpenVINO's .xml with its .bin beside it.
        threads: of one inference; the available cores by default.
        runtime: `onnxruntime` or `openvino`; by default the one that the suffix names. OpenVINO
            opens both.

    Raises:
        InputError: the file is missing, truncated, not one of ours, or the runtime cannot open it.
    """
    return Predictor(open_session(Path(path), threads=threads, runtime=runtime))


def open_session(path: Path, *, threads: int | None = None, runtime: str | None = None) -> Session:
    """The session under the predictor that `load_predictor` returns."""
    suffix = path.suffix.lower()
    if suffix not in EXPORTED_SUFFIXES:
        raise InputError(
            f"a {suffix or 'nameless'} file is not an exported model",
            where=path,
            fix=f"give {' or '.join(EXPORTED_SUFFIXES)}; `flyweight export` writes them",
        )
    chosen = runtime or ("openvino" if suffix == ".xml" else "onnxruntime")
    if chosen not in RUNTIMES:
        raise InputError(f"unknown runtime {chosen!r}", fix=f"choose {' or '.join(RUNTIMES)}")
    if chosen == "openvino":
        from flyweight.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession(path, threads=threads)
    if suffix == ".xml":
        raise InputError("ONNX Runtime cannot open OpenVINO's .xml", where=path, fix="give .onnx")
    from flyweight.runtime.onnxruntime_session import OnnxRuntimeSession

    return OnnxRuntimeSession(path, threads=threads)
