"""An ONNX graph as OpenVINO's .xml and .bin, the manifest inside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import onnx

from flyweight.core.errors import InputError
from flyweight.core.files import scratch_folder, writing_error
from flyweight.core.manifest import METADATA_KEY, Manifest

try:
    import openvino
except ImportError as error:
    raise InputError(
        "OpenVINO is not installed", fix="pip install 'flyweight[compress]'"
    ) from error


def to_openvino(graph: onnx.ModelProto, *, as_stored: bool = False) -> Any:
    """The `openvino.Model` of an ONNX graph.

    Args:
        graph: in fp32, or with weights of `flyweight.compression.stored_weights`.
        as_stored: keep the form of the weights; else constants are made ready, in fp32.
    """
    # Through a file, since the front end that reads from memory is slower and keeps a copy.
    with tempfile.TemporaryDirectory(prefix="flyweight-openvino-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph.SerializeToString())
        return openvino.Core().read_model(path) if as_stored else openvino.convert_model(str(path))


def save_openvino(model: Any, path: str | os.PathLike[str], *, manifest: Manifest) -> None:
    """Write an OpenVINO model with `manifest` in its runtime information.

    Both files are written in a temporary folder beside `path` and then moved, .bin first: a .xml
    never lies there without its weights.
    """
    target = Path(path)
    model.set_rt_info(manifest.to_json(), [METADATA_KEY])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as folder:
            temporary = folder / target.name
            openvino.save_model(model, str(temporary), compress_to_fp16=False)
            os.replace(temporary.with_suffix(".bin"), target.with_suffix(".bin"))
            os.replace(temporary, target)
    except OSError as error:
        raise writing_error(target, error) from error
