"""An exported .onnx file, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from flyweight.core.manifest import METADATA_KEY
from flyweight.runtime.session import (
    cannot_open,
    cannot_run,
    check_exists,
    checked_manifest,
    checked_outputs,
    checked_threads,
)

ERRORS_ONLY = 3


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How a network is run here, by the predictor and by all that times one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # The graph is a chain: running two operators at once would only take threads from one.
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    return options


class OnnxRuntimeSession:
    """See `flyweight.runtime.session.Session`.

    Args:
        path: the .onnx file.
        threads: of one inference; the available cores by default.

    Raises:
        InputError: the file is missing, truncated, no ONNX, or not one of ours.
    """

    runtime = "onnxruntime"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        check_exists(path)
        self._path = path
        options = session_options(checked_threads(threads))
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # The binding raises a class of its own for every status code, all of them Exceptions.
        except Exception as error:
            raise cannot_open(path, "ONNX") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.manifest = checked_manifest(path, metadata.get(METADATA_KEY))
        self.outputs = checked_outputs(path, [out.name for out in self._session.get_outputs()])
        first = self._session.get_inputs()[0]
        self._input = first.name
        batch, height, width, _ = first.shape
        self.batch: int | None = batch if isinstance(batch, int) else None
        self.size_hw = (int(height), int(width))

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], ...]:
        """Arrays in the order of `outputs` for `images [N, H, W, 3]`."""
        try:
            return tuple(self._session.run(self.outputs, {self._input: images}))
        except Exception as error:  # as above
            raise cannot_run(self._path, error) from error
