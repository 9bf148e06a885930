"""Detectors of other projects as teachers: the published ONNX file, told by what it gives out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from flyweight.core.errors import InputError
from flyweight.core.manifest import METADATA_KEY
from flyweight.labeling.foreign_picodet import PicoDetTeacher, is_picodet
from flyweight.labeling.foreign_yolox import YOLOXTeacher, is_yolox
from flyweight.runtime.onnxruntime_session import session_options
from flyweight.runtime.session import cannot_open, check_exists, checked_threads

ForeignTeacher = PicoDetTeacher | YOLOXTeacher


def open_foreign(path: Path, *, threads: int | None = None) -> ForeignTeacher | None:
    """The teacher in `path`; None where the file is no .onnx, or one of our own.

    Raises:
        InputError: the file is missing or broken, or nobody here knows what it gives out.
    """
    if path.suffix.lower() != ".onnx":
        return None
    session = _session(path, threads)
    if METADATA_KEY in session.get_modelmeta().custom_metadata_map:
        return None
    shapes = [tuple(output.shape) for output in session.get_outputs()]
    if is_yolox(session.get_inputs()[0].shape, shapes):
        return YOLOXTeacher(session)
    if is_picodet(shapes):
        return PicoDetTeacher(session)
    raise InputError(
        f"an .onnx file whose outputs {', '.join(map(str, shapes[:4]))} are not understood",
        where=path,
        fix="teachers are Flyweight's own files, and YOLOX and PicoDet as published "
        "(batch of 1, without NMS)",
    )


def _session(path: Path, threads: int | None) -> Any:
    check_exists(path)
    try:
        return onnxruntime.InferenceSession(
            str(path), session_options(checked_threads(threads)), providers=["CPUExecutionProvider"]
        )
    # The binding raises a class of its own for every status code, all of them Exceptions.
    except Exception as error:
        raise cannot_open(path, "ONNX") from error
