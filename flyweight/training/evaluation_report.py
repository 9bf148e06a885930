"""The page of `flyweight eval --report`: how good a model is on labelled images, and what it gets
wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flyweight.reports.page import Report, write_report
from flyweight.training.failures import failure_sections
from flyweight.training.run_report import ap_figures, class_section, split_name

if TYPE_CHECKING:
    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset
    from flyweight.evaluation.coco_ap import EvaluationResult
    from flyweight.evaluation.detection_errors import DetectionErrors


def write_evaluation_report(
    path: Path,
    *,
    title: str,
    dataset: DetectionDataset,
    found: Sequence[Detections],
    result: EvaluationResult,
    errors: DetectionErrors,
) -> None:
    """Write the page.

    Args:
        found: one entry a record of `dataset`, boxes float32 xyxy `[N, 4]` in pixels of the
            original image.
        result, errors: counted from `found`.

    Raises:
        InputError: it cannot be written, or an image cannot be read.
    """
    sections = [class_section(result, dataset)] if result.per_class else []
    sections += failure_sections(dataset, found, errors)
    subtitle = f"{len(dataset)} {split_name(dataset)} images of {dataset.root.name}"
    write_report(Report(title, subtitle, ap_figures(result), sections), path)
