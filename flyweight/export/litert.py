"""A detector as LiteRT's .tflite: uint8 pictures in, boxes and scores out, the manifest inside.

`litert-torch` converts. It asks for a torch older than the newest, so it stands in no extra: it is
installed without its dependencies, or in an environment of its own, which `FLYWEIGHT_LITERT_PYTHON`
names the interpreter of. Either way it runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.manifest import Manifest
from flyweight.export.int8 import Calibration
from flyweight.export.onnx import exportable
from flyweight.models.detectors import Detector
from flyweight.runtime.litert_file import pack, unpack, with_manifest

PYTHON_VARIABLE = "FLYWEIGHT_LITERT_PYTHON"
INPUT, OUTPUTS = "images", ("boxes", "scores")
PRECISIONS = ("fp32", "fp16", "int8-weights", "int8")
INSTALL = f"run `make litert`, or name another environment's interpreter in {PYTHON_VARIABLE}"


def save_litert(
    model: bytes,
    path: str | os.PathLike[str],
    *,
    manifest: Manifest,
    precision: str = "fp32",
    calibration: Calibration | None = None,
    keep_float: Sequence[str] = (),
) -> None:
    """Write a model of `to_litert` with `manifest` in its metadata, whole or not at all.

    Args:
        model: in fp32.
        path: of the .tflite file.
        manifest: what the file says about itself.
        precision: one of `PRECISIONS`: `fp16` and `int8-weights` store the weights so and compute
            in float; `int8` computes in integers between the first and the last convolutions,
            decoding stays in float.
        calibration: of the same detector; int8 takes its pictures.
        keep_float: convolutions of the ONNX graph (of `calibration`) that stay in float.

    Raises:
        InputError: a precision that there is not, or int8 without pictures.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f".tflite files do not hold {precision}: LiteRT has no kernels for it",
            fix=f"choose {', '.join(PRECISIONS)}",
        )
    if precision == "int8":
        if calibration is None:
            raise InputError(
                "int8 needs pictures to calibrate on", fix="give a data set with --data"
            )
        from flyweight.export.litert_quantise import quantise_litert

        model = quantise_litert(model, calibration, keep_float=keep_float)
    elif precision != "fp32":
        from flyweight.export.litert_quantise import store_litert_weights

        graph = None if calibration is None else calibration.graph
        model = store_litert_weights(model, precision, graph=graph, keep_float=keep_float)
    with write_atomically(path) as temporary:
        temporary.write_bytes(with_manifest(model, manifest))


def to_litert(detector: Detector) -> bytes:
    """The flatbuffer of `detector` for one image, in fp32 and without a manifest.

    It takes `images` uint8 `[1, H, W, 3]` RGB and gives `boxes` float32 `[1, A, 4]` xyxy in input
    pixels and `scores` float32 `[1, A, C]`. BatchNorm is folded first.

    Raises:
        InputError: there is no converter, or the detector is beyond it.
    """
    if detector.config.family == "faster_rcnn":
        raise InputError(
            "Faster R-CNN picks its proposals with NMS and cuts them out with RoIAlign: LiteRT's "
            "converter has neither",
            where=str(detector.config.name),
            fix="export it to onnx or openvino",
        )
    images = torch.zeros((1, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix="flyweight-litert-") as folder:
        program, converted = Path(folder) / "program.pt2", Path(folder) / "model.tflite"
        with quiet():
            torch.export.save(torch.export.export(exportable(detector), (images,)), program)
        run_converter(program, converted)
        return named_as_ours(converted.read_bytes())


def check_converter() -> None:
    """Raise `InputError` where there is no converter, before anything is made for it."""
    named = os.environ.get(PYTHON_VARIABLE)
    if not named and importlib.util.find_spec("litert_torch") is None:
        raise InputError("litert-torch is not installed", where=sys.executable, fix=INSTALL)


def run_converter(program: Path, converted: Path) -> None:
    """Run the converter in a process of its own."""
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    script = Path(__file__).with_name("litert_convert.py")
    try:
        # -P: the script's folder, with its onnx.py, is not where imports are looked for.
        done = subprocess.run(
            [python, "-P", str(script), str(program), str(converted)],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
    except OSError as error:
        raise InputError(
            "no such interpreter", where=python, fix=f"set {PYTHON_VARIABLE}"
        ) from error
    if done.returncode == 0 and converted.is_file():
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if any("No module named" in line for line in lines[-1:]):
        raise InputError("litert-torch is not installed", where=python, fix=INSTALL)
    said = next((line for line in lines if "Error" in line and not line.startswith(" ")), "")
    raise InputError(
        f"LiteRT's converter cannot convert the detector: {said or f'exit {done.returncode}'}",
        fix="export it to onnx or openvino",
    )


def named_as_ours(model: bytes) -> bytes:
    """The converter's model with input and outputs, and the layers, under our names."""
    content = unpack(model)
    graph = content.subgraphs[0]
    seen: Counter[str] = Counter()
    for tensor in graph.tensors:
        path = _module_path(tensor.name.decode()) or "tensor"
        # The quantiser wants every name once.
        tensor.name = f"{path}:{seen[path]}"
        seen[path] += 1
    [signature] = content.signatureDefs
    # In the signature they are args_0, output_0 and output_1.
    for names, entries in (((INPUT,), signature.inputs), (OUTPUTS, signature.outputs)):
        for name, entry in zip(names, sorted(entries, key=lambda each: each.name), strict=True):
            graph.tensors[entry.tensorIndex].name = entry.name = name
    return pack(content)


def _module_path(name: str) -> str:
    """`package.Class_backbone/package.Class_stem;2;...` as `backbone.stem`; a constant's is empty.

    An operator made of several has the names of all, the one that gives its result first.
    """
    parts = name.partition(";")[0].split("/")
    attributes = [re.sub(r"^(\w+\.)+[A-Za-z0-9]+_?", "", part) for part in parts]
    return ".".join(filter(None, attributes))
