"""Evaluation by all processes of a run: each detects on its part, the first counts."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from flyweight.evaluation.coco_ap import EvaluationResult, average_precision
from flyweight.evaluation.evaluate import Progress, detect, evaluate
from flyweight.training.processes import Processes

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset
    from flyweight.models.detectors.detector import Detector


def evaluate_together(
    detector: Detector,
    dataset: DetectionDataset,
    processes: Processes,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> EvaluationResult | None:
    """COCO AP of the first process's `detector`, exactly as one process alone would count it.

    Called in all processes; None in all but the first. `progress` is told of this one's images.

    Raises:
        InputError: an image cannot be read, in the process that tried.
        ElsewhereError: in the others.
    """
    if processes.count == 1:
        return evaluate(detector, dataset, batch_size=batch_size, progress=progress)
    # each process has seen other images, and BatchNorm's statistics are of what was seen
    processes.take_from_first(detector)
    mine = share_of(len(dataset), batch_size, rank=processes.rank, processes=processes.count)
    part = dataset.subset(mine)
    found = processes.together(
        lambda: detect(detector, part, batch_size=batch_size, progress=progress)
    )
    parts = processes.collect(list(zip(mine, found, strict=True)))
    if parts is None:
        return None
    of_record = dict(chain.from_iterable(parts))
    return average_precision(dataset, [of_record[place] for place in range(len(dataset))])


def share_of(images: int, batch_size: int, *, rank: int, processes: int) -> list[int]:
    """The places of the images that process `rank` detects on, each image in one process only.

    Whole batches are dealt out: which images a batch holds decides how far they are padded and how
    sums are rounded, so that the figures would differ from one process's otherwise.
    """
    starts = range(rank * batch_size, images, processes * batch_size)
    return [place for start in starts for place in range(start, min(start + batch_size, images))]
