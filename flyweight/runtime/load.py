"""Open an exported file as a predictor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flyweight.core.errors import InputError
from flyweight.runtime.predictor import Predictor
from flyweight.runtime.session import Session

# The runtimes that open a file, by its suffix: the one it is opened with by default comes first.
OPENED_BY = {
    ".onnx": ("onnxruntime", "openvino"),
    ".xml": ("openvino",),
    ".tflite": ("litert",),
    ".param": ("ncnn",),
}
RUNTIMES = ("onnxruntime", "openvino", "litert", "ncnn")
EXPORTED_SUFFIXES = tuple(OPENED_BY)


def load_predictor(
    path: str | os.PathLike[str], *, threads: int | None = None, runtime: str | None = None
) -> Predictor:
    """Open an exported file; torch is neither needed nor loaded.

    Args:
        path: .onnx, OpenVINO's .xml with its .bin beside it, LiteRT's .tflite, or ncnn's .param
            with its .bin and .json.
        threads: of one inference; the available cores by default.
        runtime: one of `RUNTIMES`; by default the one that the suffix names. OpenVINO opens .onnx
            files too.

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
    able = OPENED_BY[suffix]
    chosen = runtime or able[0]
    if chosen not in RUNTIMES:
        raise InputError(f"unknown runtime {chosen!r}", fix=f"choose {' or '.join(RUNTIMES)}")
    if chosen not in able:
        raise InputError(
            f"{chosen} does not open {suffix} files", where=path, fix=f"choose {' or '.join(able)}"
        )
    return _session_class(chosen)(path, threads=threads)


def _session_class(runtime: str) -> Callable[..., Session]:
    """Loaded when it is asked for: an edge board has one runtime, not four."""
    if runtime == "onnxruntime":
        from flyweight.runtime.onnxruntime_session import OnnxRuntimeSession

        return OnnxRuntimeSession
    if runtime == "openvino":
        from flyweight.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession
    if runtime == "litert":
        from flyweight.runtime.litert_session import LiteRtSession

        return LiteRtSession
    from flyweight.runtime.ncnn_session import NcnnSession

    return NcnnSession
