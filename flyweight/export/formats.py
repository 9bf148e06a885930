"""The formats that a detector is exported to: what each can hold, and how it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from flyweight.compression.quantise_onnx import quantise_onnx
from flyweight.compression.stored_weights import STORED, store_weights
from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest
from flyweight.export.int8 import Calibration
from flyweight.export.nms_graph import add_nms
from flyweight.export.onnx import export_manifest, save_onnx
from flyweight.models.detectors import Detector

if TYPE_CHECKING:
    from flyweight.runtime.ncnn_weights import NcnnModel

PRECISIONS = ("fp32", *STORED, "int8")


@dataclass(frozen=True)
class Order:
    """What one file is to be.

    Attributes:
        precision: one of `PRECISIONS`.
        keep_float: convolutions of the graph that int8 (or its weights) leaves in float.
        nms: the file ends with non-maximum suppression.
    """

    precision: str
    keep_float: tuple[str, ...] = ()
    nms: bool = False


@dataclass(frozen=True)
class Source:
    """What every file of an export is made from.

    Attributes:
        detector: with one input size.
        graph: of the detector, in fp32, with dense outputs.
        calibration: of int8; None without pictures.
    """

    detector: Detector
    graph: onnx.ModelProto
    calibration: Calibration | None

    @property
    def for_int8(self) -> Calibration:
        """The calibration, which int8 cannot be written without."""
        if self.calibration is None:
            raise InputError(
                "int8 needs pictures to calibrate on", fix="give a data set with --data"
            )
        return self.calibration

    @cached_property
    def ncnn(self) -> NcnnModel:
        """The detector as ncnn has it, in fp32."""
        from flyweight.export.ncnn import to_ncnn

        return to_ncnn(self.detector)

    @cached_property
    def litert(self) -> bytes:
        """The detector as LiteRT has it, in fp32."""
        from flyweight.export.litert import to_litert

        return to_litert(self.detector)


Write = Callable[[Source, Path, Order, Manifest], None]
Place = Callable[[Path, Path], Path]


@dataclass(frozen=True)
class Format:
    """A format of exported files.

    Attributes:
        name: what the user calls it.
        suffix: of the file that a runtime is given.
        write: makes that file, and its companions, at a path.
        companions: suffixes of the files that must lie beside it.
        precisions: that it can hold.
        nms: whether NMS can be in its graph.
        dynamic_batch: whether its graph can take any number of images.
        why: what to tell who asks for more.
        ready: raises `InputError` where something that writes this format is missing.
        place: moves what was made at a path into a folder, in place of moving the files.
    """

    name: str
    suffix: str
    write: Write
    companions: tuple[str, ...] = ()
    precisions: tuple[str, ...] = PRECISIONS
    nms: bool = True
    dynamic_batch: bool = True
    why: str = ""
    ready: Callable[[], object] = field(default=lambda: None)
    place: Place | None = None

    def check(self, precision: str, *, nms: bool, dynamic_batch: bool) -> None:
        """Raise `InputError` where this format cannot hold what is asked for."""
        if precision not in self.precisions:
            self._refuse(f"weights in {precision}", f"choose {', '.join(self.precisions)}")
        if nms and not self.nms:
            self._refuse("NMS in the graph", "leave --nms out: the predictor does it")
        if dynamic_batch and not self.dynamic_batch:
            self._refuse("a free number of images", "export it for one image")
        self.ready()

    def _refuse(self, what: str, fix: str) -> None:
        why = f": {self.why}" if self.why else ""
        raise InputError(f"{self.name} files do not hold {what}{why}", fix=fix)

    def move(self, made: Path, folder: Path) -> Path:
        """Move what was made into `folder`, companions first: never a file without them."""
        if self.place is not None:
            return self.place(made, folder)
        target = folder / made.name
        if self.companions:
            # Killed in between, there is no file rather than an old one with new weights.
            target.unlink(missing_ok=True)
        for suffix in self.companions:
            os.replace(made.with_suffix(suffix), target.with_suffix(suffix))
        os.replace(made, target)
        return target


def onnx_graph(source: Source, order: Order) -> onnx.ModelProto:
    """The graph of an .onnx file: also what OpenVINO's is read from, but for int8."""
    graph = source.graph
    if order.precision == "int8":
        graph = quantise_onnx(graph, source.for_int8.ranges, keep_float=order.keep_float)
    elif order.precision in STORED:
        graph = store_weights(graph, order.precision, keep_float=order.keep_float)
    return add_nms(graph, source.detector.thresholds) if order.nms else graph


def write_onnx(source: Source, path: Path, order: Order, manifest: Manifest) -> None:
    """NAME.onnx."""
    save_onnx(onnx_graph(source, order), path, manifest=manifest)


def write_openvino(source: Source, path: Path, order: Order, manifest: Manifest) -> None:
    """NAME.xml and NAME.bin."""
    from flyweight.export.openvino import save_openvino, to_openvino

    int8 = order.precision == "int8"
    # OpenVINO quantises its own model, NMS and all.
    plain = Order("fp32", nms=order.nms) if int8 else order
    model = to_openvino(onnx_graph(source, plain), as_stored=order.precision in STORED)
    if int8:
        from flyweight.compression.quantise_openvino import quantise_openvino

        batches = source.for_int8.batches()
        model = quantise_openvino(model, batches, keep_float=order.keep_float)
    save_openvino(model, path, manifest=manifest)


def write_ncnn(source: Source, path: Path, order: Order, manifest: Manifest) -> None:
    """NAME.ncnn.param, NAME.ncnn.bin and NAME.ncnn.json."""
    from flyweight.export.ncnn import save_ncnn

    model = source.ncnn
    if order.precision == "int8":
        from flyweight.export.ncnn_int8 import quantise_ncnn

        ranges = source.for_int8.ranges
        model = quantise_ncnn(model, source.graph, ranges, keep_float=order.keep_float)
    save_ncnn(model, path, manifest=manifest, precision=order.precision)


def write_litert(source: Source, path: Path, order: Order, manifest: Manifest) -> None:
    """NAME.tflite."""
    from flyweight.export.litert import save_litert

    save_litert(
        source.litert,
        path,
        manifest=manifest,
        precision=order.precision,
        calibration=source.calibration,
        keep_float=order.keep_float,
    )


def place_web(made: Path, folder: Path) -> Path:
    """The page NAME-web around an .onnx file."""
    from flyweight.web_page.folder import write_folder

    return write_folder(made, folder / f"{made.stem}-web")


def _ready_ncnn() -> None:
    import flyweight.export.ncnn  # noqa: F401


def _ready_litert() -> None:
    from flyweight.export.litert import check_converter

    check_converter()


def _ready_web() -> None:
    from flyweight.web_page.onnxruntime_web import get_onnxruntime_web

    get_onnxruntime_web()


FORMATS = {
    each.name: each
    for each in (
        Format("onnx", ".onnx", write_onnx),
        Format("openvino", ".xml", write_openvino, companions=(".bin",)),
        Format(
            "litert",
            ".tflite",
            write_litert,
            precisions=("fp32", "fp16", "int8-weights", "int8"),
            nms=False,
            dynamic_batch=False,
            why="its converter holds one image and no NMS, its runtime no bf16",
            ready=_ready_litert,
        ),
        Format(
            "ncnn",
            # OpenVINO's weights are NAME.bin.
            ".ncnn.param",
            write_ncnn,
            companions=(".bin", ".json"),
            precisions=("fp32", "fp16", "int8"),
            nms=False,
            dynamic_batch=False,
            why="it has no NMS layer, and a run is one image",
            ready=_ready_ncnn,
        ),
        Format(
            "web",
            ".onnx",
            write_onnx,
            nms=False,
            dynamic_batch=False,
            why="the page runs one picture at a time and suppresses by itself",
            ready=_ready_web,
            place=place_web,
        ),
    )
}


def chosen_format(name: str) -> Format:
    """The format of a name.

    Raises:
        InputError: there is none.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", fix=f"choose {' or '.join(FORMATS)}")
    return FORMATS[name]


def write_file(source: Source, path: Path, *, format: Format, order: Order) -> None:
    """Write one file, its manifest saying what it is."""
    manifest = export_manifest(
        source.detector, format=format.name, precision=order.precision, nms=order.nms
    )
    format.write(source, path, order, manifest)
