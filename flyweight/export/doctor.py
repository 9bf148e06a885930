"""The head doctor on a detector: see `flyweight.compression.head_doctor`."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import onnx

from flyweight.compression.head_doctor import WORST, Diagnosis, examine
from flyweight.compression.head_doctor_report import write_doctor_report
from flyweight.core.detections import Detections
from flyweight.core.files import write_atomically
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.evaluate import detect
from flyweight.export.int8 import Calibration, Say, spread
from flyweight.export.onnx import export_manifest, save_onnx, to_onnx
from flyweight.export.splits import export_data
from flyweight.models.detectors import Detector
from flyweight.runtime.load import load_predictor

# AP is measured some twenty-five times.
IMAGES = 200
PICTURES = 8


def examine_detector(
    detector: Detector,
    data: str | os.PathLike[str] | DetectionDataset,
    *,
    images: int = IMAGES,
    worst: int = WORST,
    say: Say = lambda line: None,
) -> Diagnosis:
    """Where the detector's AP goes in ONNX Runtime's int8.

    Args:
        detector: stays as it is.
        data: as in `flyweight.export.export.export`: AP is of the images that are chosen on.
        images: of how many AP is, at most.
        worst: of how many layers alone AP is measured.
        say: called with a line about what is being done.
    """
    sets = export_data(data)
    preprocessing: Preprocessing = detector.preprocessing
    if preprocessing.canvas == "batch":
        detector = detector.at_size(preprocessing.size_hw)
        preprocessing = detector.preprocessing
    say("converting to ONNX")
    graph = to_onnx(detector)
    calibration = Calibration(graph, sets.calibration, preprocessing=preprocessing, say=say)
    dataset = sets.choosing.subset(spread(len(sets.choosing), images))
    manifest = export_manifest(detector, format="onnx")

    def detect_with(model: onnx.ModelProto) -> list[Detections]:
        with tempfile.TemporaryDirectory(prefix="flyweight-doctor-") as folder:
            path = Path(folder) / "trial.onnx"
            save_onnx(model, path, manifest=manifest)
            return detect(load_predictor(path), dataset)

    return examine(
        graph,
        calibration.ranges,
        list(calibration.batches(PICTURES)),
        detect=detect_with,
        dataset=dataset,
        worst=worst,
        say=say,
    )


def write_diagnosis(diagnosis: Diagnosis, out: Path, *, name: str, subtitle: str) -> Path:
    """Write `NAME-int8-doctor.json` and the page `NAME-int8-doctor.html` into `out`; the page.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    page = out / f"{name}-int8-doctor.html"
    with write_atomically(page.with_suffix(".json")) as temporary:
        text = json.dumps(diagnosis.to_dict(), indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
    write_doctor_report(diagnosis, page, title="Where int8 loses AP", subtitle=subtitle)
    return page
