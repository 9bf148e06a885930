"""Export: files that runtimes open, each compared with the detector and measured, or refused."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from flyweight.compression.fold import kept_norms
from flyweight.compression.mixed_precision import choose_precision
from flyweight.compression.quantise_onnx import Ranges
from flyweight.compression.stored_weights import STORED
from flyweight.core.errors import CheckError, InputError
from flyweight.core.files import scratch_folder, writing_error
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.evaluation.latency import median_milliseconds
from flyweight.export.formats import (
    PRECISIONS,
    Format,
    Order,
    Source,
    chosen_format,
    write_file,
)
from flyweight.export.int8 import Calibration, read_inputs
from flyweight.export.onnx import to_onnx
from flyweight.export.parity import (
    LIMITS,
    Parity,
    compare,
    compare_nms,
    reference_outputs,
    sample_inputs,
)
from flyweight.export.splits import ExportData, export_data
from flyweight.models.detectors import Detector
from flyweight.runtime.load import load_predictor, open_session
from flyweight.runtime.predictor import stack_inputs

# A anchors, C classes

# These leave in float what costs too much AP; the others are refused.
MIXED = ("int8", "int8-weights")
# AP points that a precision may cost.
MAX_LOSS = 0.5
PARITY_IMAGES = 4
SPEED_ROUNDS = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportedFile:
    """One file that was written, with how far it is from the detector.

    Attributes:
        path: of the file that a runtime is given; its companions lie beside it.
        format: one of `flyweight.export.formats.FORMATS`.
        precision: one of `PRECISIONS`.
        max_box_error: input pixels, over all boxes (below fp32: over boxes scored above 0.01).
        max_score_error: over all anchors and classes.
        AP: of the file on the data, 0 to 1; None without data.
        torch_ap: of the detector on the same images.
        kept_float: convolutions that int8 (or its weights) left in float, for the sake of AP.
        loss: AP points lost on the images that this was decided on; None for fp32, without data.
        ms, fp32_ms: median of one image here, and that of the fp32 file beside it; None for fp32.
    """

    path: Path
    format: str
    precision: str
    max_box_error: float
    max_score_error: float
    AP: float | None = None
    torch_ap: float | None = None
    kept_float: tuple[str, ...] = ()
    loss: float | None = None
    ms: float | None = None
    fp32_ms: float | None = None

    @property
    def slower_than_fp32(self) -> bool:
        """Whether nothing but size speaks for this precision here."""
        return self.ms is not None and self.fp32_ms is not None and self.ms > self.fp32_ms

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"path": str(self.path), "kept_float": list(self.kept_float)}


def export(
    detector: Detector,
    formats: Sequence[str] = ("onnx",),
    out_dir: str | os.PathLike[str] = "exported",
    *,
    precision: str = "fp32",
    max_loss: float = MAX_LOSS,
    data: str | os.PathLike[str] | DetectionDataset | None = None,
    calibration: DetectionDataset | None = None,
    ranges: Ranges | None = None,
    nms: bool = False,
    dynamic_batch: bool = False,
    name: str | None = None,
    say: Say | None = None,
) -> list[ExportedFile]:
    """Write `detector` in each of `formats`; a file that does not agree with it is not kept.

    Args:
        detector: stays as it is.
        formats: names of `flyweight.export.formats.FORMATS`.
        out_dir: of the files `NAME.onnx`, `NAME-int8.onnx`, `NAME-nms.onnx`, `NAME.xml` ...
        precision: `fp32`, `fp16`, `bf16` or `int8-weights` (weights stored so, arithmetic in
            float), or `int8`, which needs pictures.
        max_loss: AP points that a precision may cost on the images it is decided on; int8 keeps in
            float what costs more.
        data: a data set's folder (see `flyweight.export.splits.export_data`), or the split on
            which AP is measured.
        calibration: pictures for int8; by default those of `data`.
        ranges: that the detector was trained with (`flyweight.compression.quantise_aware`), for
            int8 in ONNX in place of calibration.
        nms: put non-maximum suppression into the graph.
        dynamic_batch: the file takes any number of images at once; else one.
        name: NAME; by default the model's name in the zoo.
        say: called with a line about what is being done.

    Raises:
        InputError: something asked for is not possible.
        CheckError: a file differs from the detector by more than `parity.LIMITS` of its precision,
            or loses more AP than `max_loss`.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", fix=f"choose {', '.join(PRECISIONS)}")
    wanted = [chosen_format(each) for each in dict.fromkeys(formats)]
    for each in wanted:
        each.check(precision, nms=nms, dynamic_batch=dynamic_batch)
    if not max_loss >= 0:
        raise InputError(f"a loss of {max_loss:g} AP points cannot be kept", fix="give 0 or more")
    sets = None if data is None else export_data(data, calibration)
    pictures = calibration if sets is None else sets.calibration
    if precision == "int8" and pictures is None:
        raise InputError("int8 needs pictures to calibrate on", fix="give a data set with --data")
    out = Path(out_dir)
    say = say or _say_nothing
    if detector.preprocessing.canvas == "batch":
        height, width = detector.preprocessing.size_hw
        say(f"the file takes pictures of {height}x{width}: larger ones and portraits are shrunk")
        detector = detector.at_size((height, width))
    if nms and detector.thresholds.nms != "greedy":
        say(f"the graph has greedy NMS in place of {detector.thresholds.nms}, which ONNX lacks")
        detector = copy.copy(detector)
        detector.thresholds = replace(detector.thresholds, nms="greedy")
    if norms := kept_norms(detector):
        say(f"norms of each picture (GroupNorm) stay in the graph, they do not fold: {len(norms)}")
    say("converting to ONNX")
    job = _Job(
        detector,
        graph=to_onnx(detector, dynamic_batch=dynamic_batch),
        sets=sets,
        pictures=pictures,
        ranges=ranges,
        nms=nms,
        max_loss=max_loss,
        say=say,
    )
    stem = (name or str(detector.config.name)) + ("" if precision == "fp32" else f"-{precision}")
    stem += "-nms" if nms else ""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out) as folder:
            made = [(each, job.make(folder, stem, each, precision)) for each in wanted]
            return [replace(file, path=format.move(file.path, out)) for format, file in made]
    except OSError as error:
        raise writing_error(out, error) from error


def _say_nothing(_: str) -> None:
    """What `say` is by default."""


class _Job:
    """What the files of one export share: the graph, the pictures, the detector's own answers."""

    def __init__(
        self,
        detector: Detector,
        *,
        graph: onnx.ModelProto,
        sets: ExportData | None,
        pictures: DetectionDataset | None,
        ranges: Ranges | None,
        nms: bool,
        max_loss: float,
        say: Say,
    ) -> None:
        self.detector = detector
        self.sets = sets
        self.nms = nms
        self.max_loss = max_loss
        self.say = say
        preprocessing = detector.preprocessing
        self.inputs = sample_inputs(preprocessing.size_hw, count=PARITY_IMAGES)
        source = pictures if sets is None else sets.reporting
        if source is not None:
            self.inputs += list(read_inputs(preprocessing, source, PARITY_IMAGES))
        self.references = reference_outputs(detector, self.inputs)
        calibration = (
            None
            if pictures is None
            else Calibration(graph, pictures, preprocessing=preprocessing, known=ranges, say=say)
        )
        self.source = Source(detector, graph, calibration)
        # Of the detector itself, by the split of the data.
        self._torch_aps: dict[int, float] = {}

    def make(self, folder: Path, stem: str, format: Format, precision: str) -> ExportedFile:
        """Write one file into a folder of its own in `folder`, compare it, measure it."""
        path = folder / format.name / f"{stem}{format.suffix}"
        path.parent.mkdir()
        kept: tuple[str, ...] = ()
        loss = None
        if precision in MIXED and self.sets is not None:
            kept, loss = self._choose(path, format, precision, self.sets.choosing)
        dense = self._write_checked(path, format, Order(precision, kept, self.nms))
        rounded = precision != "fp32"
        parity = compare(
            self.references,
            open_session(dense),
            self.inputs,
            seen_only=rounded,
            proposals=rounded and self.detector.config.family == "faster_rcnn",
        )
        if precision in LIMITS:
            parity.check(path.name, LIMITS[precision])
        made = ExportedFile(
            path,
            format.name,
            precision,
            parity.max_box_error,
            parity.max_score_error,
            kept_float=kept,
        )
        if self.sets is not None:
            if precision in STORED and loss is None:
                loss = self._loss(path, self.sets.choosing)
                self._check_loss(path, precision, loss)
            reporting = self.sets.reporting
            self.say(f"measuring {path.name}")
            ap = evaluate(load_predictor(path), reporting).AP
            made = replace(made, AP=ap, torch_ap=self._torch_ap(reporting), loss=loss)
        return made if precision == "fp32" else self._timed(made, dense, format)

    def _choose(
        self, path: Path, format: Format, precision: str, choosing: DetectionDataset
    ) -> tuple[tuple[str, ...], float]:
        """The convolutions that stay in float, and the AP points that the rest costs."""
        calibration = self.source.for_int8

        def loss_of(kept: tuple[str, ...]) -> float:
            dense = path.with_name(f"trial{path.suffix}")
            self._write(dense, format, Order(precision, kept))
            loss = self._loss(dense, choosing)
            self.say(f"{precision} with {len(kept)} convolutions in float: AP {-loss:+.2f} points")
            return loss

        choice = choose_precision(lambda: calibration.candidates, loss_of, max_loss=self.max_loss)
        what = f"{precision} with {len(choice.kept)} convolutions in float"
        self._check_loss(path, what, choice.loss)
        if choice.kept and len(choice.kept) == len(calibration.candidates):
            raise CheckError(
                f"{precision} keeps AP only with every convolution in float; no file was kept "
                f"({path.name})"
            )
        return choice.kept, choice.loss

    def _check_loss(self, path: Path, what: str, loss: float) -> None:
        if not loss <= self.max_loss:
            raise CheckError(
                f"{what} loses {loss:.2f} points of AP (limit {self.max_loss:g}); no file was kept "
                f"({path.name})"
            )

    def _loss(self, path: Path, dataset: DetectionDataset) -> float:
        """AP points that the file has less than the detector."""
        ap = evaluate(load_predictor(path), dataset).AP or 0.0
        return 100 * (self._torch_ap(dataset) - ap)

    def _torch_ap(self, dataset: DetectionDataset) -> float:
        if id(dataset) not in self._torch_aps:
            self.say("measuring the detector")
            self._torch_aps[id(dataset)] = evaluate(self.detector, dataset).AP or 0.0
        return self._torch_aps[id(dataset)]

    def _timed(self, made: ExportedFile, dense: Path, format: Format) -> ExportedFile:
        """With its time beside that of fp32 in the same runtime; says so where it is no faster."""
        plain = dense.with_name(f"fp32{dense.suffix}")
        self._write(plain, format, Order("fp32"))
        sessions = {"fp32": open_session(plain), "this": open_session(dense)}
        images = stack_inputs(self.inputs[-1:], sessions["fp32"].batch or 1)
        calls = {name: partial(each.run, images) for name, each in sessions.items()}
        times = median_milliseconds(calls, repeats=SPEED_ROUNDS)
        timed = replace(made, ms=times["this"], fp32_ms=times["fp32"])
        if timed.slower_than_fp32:
            self.say(
                f"{made.path.name} is not faster than fp32 here: {times['this']:.1f} against "
                f"{times['fp32']:.1f} ms"
            )
        return timed

    def _write_checked(self, path: Path, format: Format, order: Order) -> Path:
        """Write the file and, where it ends with NMS, a dense one to compare; gives the latter."""
        self.say(f"writing {path.name}")
        if not order.nms:
            self._write(path, format, order)
            return path
        dense = path.with_name(f"dense{path.suffix}")
        self._write(dense, format, replace(order, nms=False))
        self._write(path, format, order)
        self._check_nms(dense, path)
        return dense

    def _check_nms(self, dense: Path, path: Path) -> Parity:
        parity = compare_nms(
            open_session(dense), open_session(path), self.inputs, self.detector.thresholds
        )
        parity.check(path.name)
        return parity

    def _write(self, path: Path, format: Format, order: Order) -> None:
        write_file(self.source, path, format=format, order=order)
