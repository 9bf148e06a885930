"""Which images of a data set an export may look at, and for what."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flyweight.data.formats import available_splits, open_dataset, split_for_validation
from flyweight.data.records import DetectionDataset


@dataclass(frozen=True)
class ExportData:
    """Three sets of images.

    Attributes:
        calibration: ranges come from these.
        choosing: AP lost on these decides what stays in float.
        reporting: AP is told on these; nothing is chosen on them where the data has a test split.
    """

    calibration: DetectionDataset
    choosing: DetectionDataset
    reporting: DetectionDataset


def export_data(
    data: str | os.PathLike[str] | DetectionDataset, calibration: DetectionDataset | None = None
) -> ExportData:
    """The sets of a data set's folder: `train`, `val` and `test`.

    Without `val` the images that training sets aside are chosen on; without `test` those that are
    chosen on are reported too. One split that was opened already serves for all.
    """
    if isinstance(data, DetectionDataset):
        return ExportData(calibration or data, data, data)
    root = Path(data)
    splits = available_splits(root)
    train = open_dataset(root, "train" if "train" in splits else None)
    if "val" in splits:
        choosing = open_dataset(root, "val")
    else:
        train, choosing = split_for_validation(train)
    reporting = open_dataset(root, "test") if "test" in splits else choosing
    return ExportData(calibration or train, choosing, reporting)
