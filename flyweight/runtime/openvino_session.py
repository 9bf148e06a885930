"""An exported .xml (with its .bin) or .onnx file, run by OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.manifest import METADATA_KEY
from flyweight.runtime.session import (
    available_cores,
    cannot_open,
    cannot_run,
    check_exists,
    checked_manifest,
    checked_outputs,
    checked_threads,
)

try:
    import openvino
except ImportError as error:
    raise InputError(
        "OpenVINO is not installed", fix="pip install openvino, or open the .onnx file"
    ) from error


def compile_settings(threads: int) -> dict[str, Any]:
    """How a network is run here, by the predictor and by all that times one.

    OpenVINO pins its threads to the first cores, those of every network to the same ones. With
    fewer threads than cores others are at work, so there they are left to the system.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": threads >= available_cores(),
    }


class OpenVinoSession:
    """See `flyweight.runtime.session.Session`.

    Args:
        path: the .xml or .onnx file.
        threads: of one inference; the available cores by default.

    Raises:
        InputError: the file is missing, truncated, no model, or not one of ours.
    """

    runtime = "openvino"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        check_exists(path)
        self._path = path
        if path.suffix == ".xml":
            check_exists(path.with_suffix(".bin"))
        core = openvino.Core()
        try:
            model = core.read_model(str(path))
        except RuntimeError as error:
            raise cannot_open(path, "OpenVINO" if path.suffix == ".xml" else "ONNX") from error
        self.manifest = checked_manifest(path, _manifest_text(model))
        self.outputs = checked_outputs(path, [_name(output) for output in model.outputs])
        shape = model.inputs[0].get_partial_shape()
        self.batch: int | None = shape[0].get_length() if shape[0].is_static else None
        self.size_hw = (shape[1].get_length(), shape[2].get_length())
        settings = compile_settings(checked_threads(threads))
        try:
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise cannot_open(path, "OpenVINO" if path.suffix == ".xml" else "ONNX") from error
        self._request = compiled.create_infer_request()
        order = {_name(output): index for index, output in enumerate(compiled.outputs)}
        self._order = tuple(order[name] for name in self.outputs)

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], ...]:
        """Arrays in the order of `outputs` for `images [N, H, W, 3]`.

        They are views of the request's own memory: the next run overwrites them.
        """
        try:
            results = self._request.infer({0: images}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise cannot_run(self._path, error) from error
        return tuple(results[index] for index in self._order)


def _manifest_text(model: Any) -> str | None:
    # In our own .xml the text is at the key itself; OpenVINO keeps an .onnx file's under
    # "framework".
    for path in ([METADATA_KEY], ["framework", METADATA_KEY]):
        if model.has_rt_info(path):
            return str(model.get_rt_info(path).astype(str))
    return None


def _name(output: Any) -> str:
    names = output.get_names()
    return next((name for name in ("boxes", "scores", "labels", "count") if name in names), "")
