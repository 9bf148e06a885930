"""Export: files that runtimes open, each compared with the detector and measured, or refused."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from flyweight.compression.quantise_onnx import (
    Ranges,
    calibrate,
    find_sensitive,
    quantise_onnx,
)
from flyweight.core.errors import CheckError, InputError
from flyweight.core.files import writing_error
from flyweight.core.image import read_image
from flyweight.data.formats import available_splits, open_dataset, split_for_validation
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.export.nms_graph import add_nms
from flyweight.export.onnx import export_manifest, save_onnx, to_onnx
from flyweight.export.parity import (
    Parity,
    compare,
    compare_nms,
    reference_outputs,
    sample_inputs,
)
from flyweight.models.detectors import Detector
from flyweight.runtime.load import load_predictor, open_session

# A anchors, C classes

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
PRECISIONS = ("fp32", "int8")
# int8 may cost half a point of AP; else the convolutions that suffer most stay in float, ever
# more. What is chosen on one split loses a little more on the next: above a point it is refused.
GOOD_AP_LOSS = 0.005
MAX_AP_LOSS = 0.01
KEEP_FLOAT_STEPS = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32)
CALIBRATION_IMAGES = 200
PARITY_IMAGES = 4
SENSITIVITY_IMAGES = 4

Say = Callable[[str], None]


@dataclass(frozen=True)
class ExportedFile:
    """One file that was written, with how far it is from the detector.

    Attributes:
        path: of the file; OpenVINO's .bin lies beside its .xml.
        format: `onnx` or `openvino`.
        precision: `fp32` or `int8`.
        max_box_error: input pixels, over all boxes (int8: over boxes scored above 0.01).
        max_score_error: over all anchors and classes.
        AP: of the file on the data, 0 to 1; None without data.
        torch_ap: of the detector on the same data.
        kept_float: convolutions that int8 left in float, for the sake of AP.
    """

    path: Path
    format: str
    precision: str
    max_box_error: float
    max_score_error: float
    AP: float | None = None
    torch_ap: float | None = None
    kept_float: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"path": str(self.path), "kept_float": list(self.kept_float)}


def export(
    detector: Detector,
    formats: Sequence[str] = ("onnx",),
    out_dir: str | os.PathLike[str] = "exported",
    *,
    precision: str = "fp32",
    data: str | os.PathLike[str] | DetectionDataset | None = None,
    calibration: DetectionDataset | None = None,
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
        precision: `fp32` or `int8`; the latter needs pictures.
        data: a data set's folder (calibration on `train`, AP on `val`, or `test` without one), or
            the split on which AP is measured.
        calibration: pictures for int8; by default those of `data`.
        nms: put non-maximum suppression into the graph.
        dynamic_batch: the file takes any number of images at once; else one.
        name: NAME; by default the model's name in the zoo.
        say: called with a line about what is being done.

    Raises:
        InputError: something asked for is not possible.
        CheckError: a file differs from the detector by more than 0.05 px or a score of 0.001, or
            int8 loses more than a point of AP however much is kept in float.
    """
    for wanted in formats:
        if wanted not in SUFFIXES:
            raise InputError(f"unknown format {wanted!r}", fix=f"choose {' or '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", fix="choose fp32 or int8")
    measured, pictures = _datasets(data, calibration)
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
    say("converting to ONNX")
    job = _Job(
        detector,
        graph=to_onnx(detector, dynamic_batch=dynamic_batch),
        measured=measured,
        pictures=pictures,
        nms=nms,
        say=say,
    )
    stem = (name or str(detector.config.name)) + ("-int8" if precision == "int8" else "")
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
    return ExportedFile(**(made.__dict__ | {"path": out / made.path.name}))


class _Job:
    """What the files of one export share: the graph, the pictures, the detector's own answers."""

    def __init__(
        self,
        detector: Detector,
        *,
        graph: onnx.ModelProto,
        measured: DetectionDataset | None,
        pictures: DetectionDataset | None,
        nms: bool,
        say: Say,
    ) -> None:
        self.detector = detector
        self.graph = graph
        self.measured = measured
        self.pictures = pictures
        self.nms = nms
        self.say = say
        self.inputs = sample_inputs(detector.preprocessing.size_hw, count=PARITY_IMAGES)
        source = measured or pictures
        if source is not None:
            self.inputs += list(_read_inputs(detector, source, PARITY_IMAGES))
        self.references = reference_outputs(detector, self.inputs)
        self.torch_ap: float | None = None
        if measured is not None:
            say("measuring the detector")
            self.torch_ap = evaluate(detector, measured).AP
        self._ranges: Ranges | None = None
        self._sensitive: list[str] | None = None

    def make(self, path: Path, format: str, precision: str) -> ExportedFile:
        """Write one file to `path`, compare it, measure it."""
        if precision == "fp32":
            return self._try(path, format, precision, ())
        best: tuple[float, tuple[str, ...]] | None = None
        for count in KEEP_FLOAT_STEPS:
            kept = tuple(self.sensitive()[:count]) if count else ()
            made = self._try(path, format, precision, kept)
            if made.AP is None or self.torch_ap is None:
                return made
            loss = self.torch_ap - made.AP
            if loss <= GOOD_AP_LOSS:
                return made
            self.say(f"int8 with {len(kept)} convolutions in float: AP {-100 * loss:+.1f} points")
            best = min(best or (loss, kept), (loss, kept))
        assert best is not None
        loss, kept = best
        if loss > MAX_AP_LOSS:
            raise CheckError(
                f"int8 loses {100 * loss:.1f} points of AP (limit {100 * MAX_AP_LOSS:.0f}) even "
                f"with {len(kept)} convolutions in float; no file was kept ({path.name})"
            )
        return self._try(path, format, precision, kept)

    def _try(self, path: Path, format: str, precision: str, kept: tuple[str, ...]) -> ExportedFile:
        dense = path.with_name(f"dense{path.suffix}") if self.nms else path
        self.say(f"writing {path.name}")
        self._write(dense, format, precision, kept, nms=False)
        session = open_session(dense)
        parity = compare(self.references, session, self.inputs, seen_only=precision == "int8")
        if precision == "fp32":
            parity.check(path.name)
        if self.nms:
            self._write(path, format, precision, kept, nms=True)
            self._check_nms(dense, path)
        ap = None
        if self.measured is not None:
            self.say(f"measuring {path.name}")
            ap = evaluate(load_predictor(path), self.measured).AP
        return ExportedFile(
            path,
            format,
            precision,
            parity.max_box_error,
            parity.max_score_error,
            AP=ap,
            torch_ap=self.torch_ap,
            kept_float=kept,
        )

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
            graph = quantise_onnx(graph, self.ranges(), keep_float=kept)
        if nms:
            graph = add_nms(graph, self.detector.thresholds)
        if format == "onnx":
            save_onnx(graph, path, manifest=manifest)
            return
        from flyweight.export.openvino import save_openvino, to_openvino

        model = to_openvino(graph)
        if precision == "int8":
            from flyweight.compression.quantise_openvino import quantise_openvino

            model = quantise_openvino(model, self.calibration_batches(), keep_float=kept)
        save_openvino(model, path, manifest=manifest)

    def ranges(self) -> Ranges:
        """Of every tensor around a convolution, calibrated once."""
        if self._ranges is None:
            self.say("calibrating")
            self._ranges = calibrate(self.graph, self.calibration_batches())
        return self._ranges

    def sensitive(self) -> list[str]:
        """Names of the convolutions, those that int8 harms most first."""
        if self._sensitive is None:
            self.say("looking for the convolutions that int8 harms")
            images = self.calibration_batches(SENSITIVITY_IMAGES)
            found = find_sensitive(self.graph, self.ranges(), images)
            self._sensitive = [each.node for each in found]
        return self._sensitive

    def calibration_batches(
        self, count: int = CALIBRATION_IMAGES
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """uint8 `[1, h, w, 3]` each."""
        assert self.pictures is not None
        for image in _read_inputs(self.detector, self.pictures, count):
            yield image[None]


def _datasets(
    data: str | os.PathLike[str] | DetectionDataset | None, calibration: DetectionDataset | None
) -> tuple[DetectionDataset | None, DetectionDataset | None]:
    """The split that AP is measured on, and the one that gives pictures for calibration."""
    if data is None or isinstance(data, DetectionDataset):
        return data, calibration or data
    root = Path(data)
    splits = available_splits(root)
    train = open_dataset(root, "train" if "train" in splits else None)
    for held_out in ("val", "test"):
        if held_out in splits:
            return open_dataset(root, held_out), calibration or train
    train, measured = split_for_validation(train)
    return measured, calibration or train


def _read_inputs(
    detector: Detector, dataset: DetectionDataset, count: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Up to `count` pictures of `dataset`, spread over it, as inputs uint8 `[h, w, 3]`."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round())
    for index in chosen.astype(int):
        image = read_image(dataset.records[index].path, min_size_hw=detector.preprocessing.size_hw)
        yield detector.preprocessing.apply(image)[0]
