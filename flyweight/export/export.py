"""Export: files that runtimes open, each compared with the detector and measured, or refused."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from flyweight.compression.fold import kept_norms
from flyweight.compression.mixed_precision import choose_precision
from flyweight.compression.quantise_onnx import Ranges, quantise_onnx
from flyweight.compression.stored_weights import STORED, store_weights
from flyweight.core.errors import CheckError, InputError
from flyweight.core.files import writing_error
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.evaluation.latency import median_milliseconds
from flyweight.export.int8 import Calibration, read_inputs
from flyweight.export.nms_graph import add_nms
from flyweight.export.onnx import export_manifest, save_onnx, to_onnx
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

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
PRECISIONS = ("fp32", *STORED, "int8")
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
        path: of the file; OpenVINO's .bin lies beside its .xml.
        format: `onnx` or `openvino`.
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
        formats: `onnx`, `openvino`.
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
    for wanted in formats:
        if wanted not in SUFFIXES:
            raise InputError(f"unknown format {wanted!r}", fix=f"choose {' or '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", fix=f"choose {', '.join(PRECISIONS)}")
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
        with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as folder:
            made = [
                job.make(Path(folder) / (stem + SUFFIXES[wanted]), wanted, precision)
                for wanted in dict.fromkeys(formats)
            ]
            return [_move(each, out) for each in made]
    except OSError as error:
        raise writing_error(out, error) from error


def _say_nothing(_: str) -> None:
    """What `say` is by default."""


def _move(made: ExportedFile, out: Path) -> ExportedFile:
    """`made` after its move into `out`; a .xml after its .bin."""
    if made.format == "openvino":
        weights = made.path.with_suffix(".bin")
        os.replace(weights, out / weights.name)
    os.replace(made.path, out / made.path.name)
    return replace(made, path=out / made.path.name)


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
        self.graph = graph
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
        self.calibration = (
            None
            if pictures is None
            else Calibration(graph, pictures, preprocessing=preprocessing, known=ranges, say=say)
        )
        # Of the detector itself, by the split of the data.
        self._torch_aps: dict[int, float] = {}

    def make(self, path: Path, format: str, precision: str) -> ExportedFile:
        """Write one file to `path`, compare it, measure it."""
        kept: tuple[str, ...] = ()
        loss = None
        if precision in MIXED and self.sets is not None:
            kept, loss = self._choose(path, format, precision, self.sets.choosing)
        dense = self._write_checked(path, format, precision, kept)
        parity = compare(
            self.references, open_session(dense), self.inputs, seen_only=precision != "fp32"
        )
        if precision in LIMITS:
            parity.check(path.name, LIMITS[precision])
        made = ExportedFile(
            path,
            format,
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
        return made if precision == "fp32" else self._timed(made, dense)

    def _choose(
        self, path: Path, format: str, precision: str, choosing: DetectionDataset
    ) -> tuple[tuple[str, ...], float]:
        """The convolutions that stay in float, and the AP points that the rest costs."""
        assert self.calibration is not None
        calibration = self.calibration

        def loss_of(kept: tuple[str, ...]) -> float:
            dense = path.with_name(f"trial{path.suffix}")
            self._write(dense, format, precision, kept, nms=False)
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

    def _timed(self, made: ExportedFile, dense: Path) -> ExportedFile:
        """With its time beside that of fp32 in the same runtime; says so where it is no faster."""
        plain = dense.with_name(f"fp32{dense.suffix}")
        self._write(plain, made.format, "fp32", (), nms=False)
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

    def _write_checked(
        self, path: Path, format: str, precision: str, kept: tuple[str, ...]
    ) -> Path:
        """Write the file and, where it ends with NMS, a dense one to compare; gives the latter."""
        self.say(f"writing {path.name}")
        dense = path.with_name(f"dense{path.suffix}") if self.nms else path
        self._write(dense, format, precision, kept, nms=False)
        if self.nms:
            self._write(path, format, precision, kept, nms=True)
            self._check_nms(dense, path)
        return dense

    def _check_nms(self, dense: Path, path: Path) -> Parity:
        parity = compare_nms(
            open_session(dense), open_session(path), self.inputs, self.detector.thresholds
        )
        parity.check(path.name)
        return parity

    def _write(
        self, path: Path, format: str, precision: str, kept: tuple[str, ...], *, nms: bool
    ) -> None:
        manifest = export_manifest(self.detector, format=format, precision=precision, nms=nms)
        graph = self.graph
        if precision == "int8" and format == "onnx":
            assert self.calibration is not None
            graph = quantise_onnx(graph, self.calibration.ranges, keep_float=kept)
        elif precision in STORED:
            graph = store_weights(graph, precision, keep_float=kept)
        if nms:
            graph = add_nms(graph, self.detector.thresholds)
        if format == "onnx":
            save_onnx(graph, path, manifest=manifest)
            return
        from flyweight.export.openvino import save_openvino, to_openvino

        model = to_openvino(graph, as_stored=precision in STORED)
        if precision == "int8":
            from flyweight.compression.quantise_openvino import quantise_openvino

            assert self.calibration is not None
            model = quantise_openvino(model, self.calibration.batches(), keep_float=kept)
        save_openvino(model, path, manifest=manifest)
