"""An exported NAME.ncnn.param, with its .bin and .json, run by ncnn on the CPU."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest
from flyweight.runtime.ncnn_graph import MAX_TEXT, read_graph, write_graph
from flyweight.runtime.ncnn_shapes import check_shapes
from flyweight.runtime.ncnn_weights import NcnnModel, read_weights
from flyweight.runtime.session import (
    DENSE_OUTPUTS,
    cannot_open,
    check_exists,
    checked_manifest,
    checked_threads,
    precision_of,
)

try:
    import ncnn
except ImportError as error:
    raise InputError("ncnn is not installed", fix="pip install ncnn, or open the .onnx") from error

INPUT = "images"
WEIGHTS_SUFFIX = ".bin"
MANIFEST_SUFFIX = ".json"
# Of the manifest's lineage["export"]: SHA-256 of the .param and the .bin that belong together.
DIGESTS_KEY = "sha256"


def set_options(options: Any, threads: int) -> None:
    """How a network is run here, by the predictor and by all that times one.

    Arithmetic in 32 bits whatever the processor could: ncnn's own choice is 16 bits on ARM, and
    then a file says something else on every machine. Convolutions with int8 weights stay int8.
    """
    options.num_threads = threads
    options.use_vulkan_compute = False
    for name in dir(options):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(options, name, False)
    options.use_int8_inference = True


class NcnnSession:
    """See `flyweight.runtime.session.Session`.

    The files are checked before ncnn sees them, since it believes what it reads: every blob's shape
    is worked out, and the .bin has to hold exactly the weights that the layers ask for.

    Attributes:
        precision: of the file: `fp32`, `fp16` (weights only) or `int8`. Arithmetic is fp32, and
            int8 in the convolutions of int8 files.

    Args:
        path: the .param; NAME.ncnn.bin and NAME.ncnn.json lie beside NAME.ncnn.param.
        threads: of one inference; the available cores by default.

    Raises:
        InputError: a file is missing, truncated, foreign, or of another export than the others.
    """

    runtime = "ncnn"
    batch: int | None = 1

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        for suffix in (path.suffix, WEIGHTS_SUFFIX, MANIFEST_SUFFIX):
            check_exists(path.with_suffix(suffix))
        self.manifest = _read_manifest(path.with_suffix(MANIFEST_SUFFIX))
        self.precision = precision_of(self.manifest)
        model, self.size_hw = read_model(path, self.manifest)
        self.outputs: tuple[str, ...] = DENSE_OUTPUTS
        self._net = ncnn.Net()
        set_options(self._net.opt, checked_threads(threads))
        refused = self._net.load_param_mem(write_graph(model.layers))
        if refused or self._net.load_model(str(path.with_suffix(WEIGHTS_SUFFIX))):
            raise cannot_open(path, "ncnn")

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], ...]:
        """Arrays in the order of `outputs` for one image `[1, H, W, 3]`; they are the caller's.

        Raises:
            InputError: another number of images, another size, or not uint8.
        """
        height, width = self.size_hw
        if images.shape != (1, height, width, 3) or images.dtype != np.uint8:
            raise InputError(
                f"the file takes uint8 of (1, {height}, {width}, 3), not {images.dtype} of "
                f"{images.shape}"
            )
        extractor = self._net.create_extractor()
        # A `Mat` of a numpy array points into it, and ncnn works in place: this one is a copy, as
        # are the outputs, whose memory the extractor takes back.
        pixels = np.ascontiguousarray(images[0])
        mat = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        extractor.input(INPUT, mat)
        found = []
        for name in self.outputs:
            failed, output = extractor.extract(name)
            if failed:
                raise InputError(f"ncnn could not run the file (code {failed})")
            found.append(np.array(output)[None])
        return tuple(found)


def read_model(path: Path, manifest: Manifest) -> tuple[NcnnModel, tuple[int, int]]:
    """The checked graph and weights of a .param and the .bin beside it, and the input's size.

    Raises:
        InputError: they are not whole, not ours, or do not belong to `manifest`.
    """
    weights = path.with_suffix(WEIGHTS_SUFFIX)
    text = _read_small(path, MAX_TEXT)
    content = np.memmap(weights, np.uint8, mode="r")
    digests = manifest.lineage.get("export", {}).get(DIGESTS_KEY)
    if digests != digests_of(text, content.data):
        raise InputError(
            "the .param, .bin and .json are not of one export, or one is damaged",
            where=path,
            fix="export it again, or copy all three again",
        )
    try:
        layers = read_graph(text.decode("ascii"))
        model = NcnnModel(layers, read_weights(layers, content))
        size_hw = checked_ends(model, len(manifest.class_names))
        if size_hw != manifest.preprocessing.size_hw:
            raise ValueError(f"pictures of {manifest.preprocessing.size_hw}, a graph of {size_hw}")
        return model, size_hw
    except ValueError as error:
        raise InputError(
            f"the file is damaged, or no ncnn model of `flyweight export` ({error})",
            where=path,
            fix="export it again, or copy it again with the files beside it",
        ) from error


def checked_ends(model: NcnnModel, num_classes: int) -> tuple[int, int]:
    """Height and width of the input; ValueError where inputs or outputs are not the contract's."""
    blobs = check_shapes(model.layers, model.weights)
    inputs = [layer.outputs for layer in model.layers if layer.kind == "Input"]
    if inputs != [(INPUT,)] or blobs[INPUT].shape[0] != 3:
        raise ValueError("its input is no picture")
    read = {name for layer in model.layers for name in layer.inputs}
    boxes, scores = (blobs.get(name) for name in DENSE_OUTPUTS)
    if boxes is None or scores is None or boxes.int8 or scores.int8 or read & {*DENSE_OUTPUTS}:
        raise ValueError("it does not end with boxes and scores")
    if boxes.shape[1:] != (4,) or scores.shape != (boxes.shape[0], num_classes):
        raise ValueError(f"boxes of {boxes.shape}, scores of {scores.shape}")
    _, height, width = blobs[INPUT].shape
    return height, width


def digests_of(graph: bytes, weights: bytes | memoryview) -> dict[str, str]:
    """SHA-256 of both files, by suffix."""
    return {
        ".param": hashlib.sha256(graph).hexdigest(),
        WEIGHTS_SUFFIX: hashlib.sha256(weights).hexdigest(),
    }


def _read_small(path: Path, limit: int) -> bytes:
    """The bytes of a file that is no larger than files of its kind are."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise cannot_open(path, "ncnn")
    return content


def _read_manifest(path: Path) -> Manifest:
    try:
        text = _read_small(path, MAX_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise cannot_open(path, "ncnn") from error
    return checked_manifest(path, text)
