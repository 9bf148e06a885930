"""An exported .tflite file, run by LiteRT on the CPU (XNNPACK)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.runtime.litert_file import read_manifest
from flyweight.runtime.session import (
    cannot_open,
    check_exists,
    checked_outputs,
    checked_threads,
)

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise InputError(
        "LiteRT is not installed", fix="pip install ai-edge-litert, or open an .onnx file"
    ) from error


class LiteRtSession:
    """See `flyweight.runtime.session.Session`.

    The graph's shapes are fixed, so is the number of images: 1.

    Args:
        path: the .tflite file.
        threads: of one inference; the available cores by default.

    Raises:
        InputError: the file is missing, truncated, damaged, no LiteRT model, or not one of ours.
    """

    runtime = "litert"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        check_exists(path)
        model = path.read_bytes()
        self.manifest = read_manifest(path, model)
        try:
            # From the bytes that were checked, which the interpreter keeps.
            self._interpreter = Interpreter(
                model_content=model, num_threads=checked_threads(threads)
            )
            self._interpreter.allocate_tensors()
            [images] = self._interpreter.get_input_details()
            made = {each["name"]: each["index"] for each in self._interpreter.get_output_details()}
            batch, height, width, _ = images["shape"].tolist()
        except (RuntimeError, ValueError) as error:
            raise cannot_open(path, "LiteRT") from error
        self.outputs = checked_outputs(path, list(made))
        self.batch: int | None = batch
        self.size_hw = (height, width)
        self._path = path
        self._input = images["index"]
        self._made = [made[name] for name in self.outputs]
        self._running = threading.Lock()

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], ...]:
        """Arrays in the order of `outputs` for `images [1, H, W, 3]`; they are copies.

        Threads may share a session; their runs take turns.
        """
        with self._running:
            self._interpreter.set_tensor(self._input, images)
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise cannot_open(self._path, "LiteRT") from error
            return tuple(self._interpreter.get_tensor(index) for index in self._made)
