"""The report of a training run, from its folder and its best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flyweight.core.detections import Detections, Predictor
from flyweight.core.drawing import class_colour, draw_boxes, draw_detections
from flyweight.core.image import read_image
from flyweight.evaluation.coco_ap import EvaluationResult, average_precision
from flyweight.evaluation.detection_errors import find_errors
from flyweight.evaluation.evaluate import detect
from flyweight.reports.charts import Line, line_chart
from flyweight.reports.page import (
    Picture,
    Report,
    Section,
    charts,
    fit_to,
    pictures,
    settings,
    table,
    write_report,
)
from flyweight.training.failures import MOST_NAMES, SHOWN_SCORE, failure_sections

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset, Record
    from flyweight.models.detectors.detector import Detector
    from flyweight.training.recipe import Recipe
    from flyweight.training.run_folder import RunFolder

PICTURES = 12
MOST_CURVES = 8


def write_run_report(
    path: Path,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    recipe: Mapping[str, Any],
    best_epoch: int,
    predictor: Predictor | None,
    val_set: DetectionDataset | None,
    images_per_second: float,
    subtitle: str = "",
    ledger: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write `report.html`.

    Args:
        rows: lines of `metrics.jsonl`.
        predictor: the best checkpoint; with `val_set`, its curves, classes, errors and pictures
            are shown.
        ledger: rows {"stage", "AP", "AP50", "ms", "mb"} of an export, if there was one.

    Raises:
        InputError: it cannot be written, or an image cannot be read.
    """
    sections = []
    if ledger:
        sections.append(ledger_section(ledger))
    sections.append(curves_section(rows, best_epoch))
    figures = [
        (f"{len(rows)}", "epochs"),
        (f"{images_per_second:.1f}", "training images per second"),
    ]
    if predictor is not None and val_set:
        found = detect(predictor, val_set)
        result = average_precision(val_set, found)
        figures = ap_figures(result) + figures
        if result.per_class:
            sections.append(class_section(result, val_set))
        sections += failure_sections(val_set, found, find_errors(val_set, found))
        sections.append(picture_section(val_set, found))
    sections.append(Section("Recipe", settings(recipe), "Every setting of the run."))
    write_report(Report(title, subtitle, figures, sections), path)


def report_run(
    folder: RunFolder,
    best: Detector,
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    recipe: Recipe,
    *,
    best_epoch: int,
    images_per_second: float,
) -> None:
    """Write the report of a run into its folder."""
    classes = len(train_set.class_names)
    write_run_report(
        folder.report,
        title=f"{best.config.name} on {train_set.root.name}",
        subtitle=f"{len(train_set)} training images, {len(val_set or ())} validation images, "
        f"{classes} {'class' if classes == 1 else 'classes'}; best weights from epoch {best_epoch}",
        rows=folder.read_metrics(),
        recipe=recipe.to_dict(),
        best_epoch=best_epoch,
        predictor=best,
        val_set=val_set,
        images_per_second=images_per_second,
    )


def ledger_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """What each step from training to the exported file gave and cost."""
    longest = max(float(row["ms"]) for row in rows) or 1.0
    cells = [
        [
            str(row["stage"]), f"{row['AP']:.3f}", f"{row['AP50']:.3f}", f"{row['ms']:.1f}",
            f"{row['mb']:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    body = table(
        ("Stage", "AP", "AP50", "ms an image", "MB"),
        cells,
        bars={3: [float(row["ms"]) / longest for row in rows]},
    )
    return Section("Ledger", body, "Accuracy, time and size after each step.")


def curves_section(rows: Sequence[Mapping[str, Any]], best_epoch: int) -> Section:
    """Losses, AP and learning rate over the epochs."""
    epochs = [row["epoch"] for row in rows]
    span = (0, max(epochs, default=1))
    parts = [name for name in (rows[0] if rows else {}) if name.startswith("loss")]
    names = {"loss": "total"}
    svgs = [
        line_chart(
            [
                Line(names.get(part, part.removeprefix("loss_")), epochs, [r[part] for r in rows])
                for part in parts
            ],
            title="Training loss",
            x_label="epoch",
            x_range=span,
        )
    ]
    evaluated = [row for row in rows if row.get("AP") is not None]
    if evaluated:
        at = [row["epoch"] for row in evaluated]
        svgs.append(
            line_chart(
                [
                    Line(name, at, [row[name] for row in evaluated], dots=len(at) <= 25)
                    for name in ("AP50", "AP75", "AP")
                ],
                title="Validation AP",
                x_label="epoch",
                x_range=span,
                y_range=(0, 1),
                marked_x=best_epoch or None,
                marked_label="best",
            )
        )
    svgs.append(
        line_chart(
            [Line("learning rate", epochs, [row["lr"] for row in rows])],
            title="Learning rate",
            x_label="epoch",
            x_range=span,
        )
    )
    return Section("Training", charts(svgs))


def ap_figures(result: EvaluationResult) -> list[tuple[str, str]]:
    """The figures at the top of a page: (value, what it is)."""
    named = (("AP", result.AP), ("AP at IoU 0.5", result.AP50), ("AP at IoU 0.75", result.AP75))
    return [("none" if value is None else f"{value:.3f}", name) for name, value in named]


def class_section(result: EvaluationResult, val_set: DetectionDataset) -> Section:
    """A table of the classes, and the precision-recall curves of the most frequent."""
    labels = np.concatenate([record.labels for record in val_set.records])
    counts = np.bincount(labels, minlength=len(val_set.class_names))
    objects = {name: int(counts[i]) for i, name in enumerate(val_set.class_names)}
    names = sorted(result.per_class, key=lambda name: -objects[name])
    cells, shares = [], []
    for name in names:
        figures, curve = result.per_class[name], result.curves[name]
        score = curve.best_score()
        place = int(np.argmin(np.abs(curve.score - score)))
        cells.append(
            [
                name, str(objects[name]), f"{figures['AP']:.3f}", f"{figures['AP50']:.3f}",
                f"{score:.2f}", f"{curve.precision[place]:.2f}", f"{curve.recall[place]:.2f}",
            ]
        )  # fmt: skip
        shares.append(figures["AP"])
    columns = ("Class", "Objects", "AP", "AP50", "Best score", "Precision", "Recall")
    lines = [
        Line(name, result.curves[name].recall, result.curves[name].precision)
        for name in names[:MOST_CURVES]
    ]
    chart = line_chart(
        lines, title="Precision over recall", x_label="recall", x_range=(0, 1), y_range=(0, 1.02)
    )
    note = (
        f"On the {split_name(val_set)} images. Best score is the threshold of the highest F1 at "
        "IoU 0.5, with the precision and recall that it gives."
    )
    if len(names) > MOST_CURVES:
        note += f" The curves are those of the {MOST_CURVES} classes with most objects."
    body = table(columns, cells, bars={2: shares})
    return Section("Classes", body + f'<div style="height:24px"></div>{charts([chart])}', note)


def split_name(dataset: DetectionDataset) -> str:
    """What a reader calls the split."""
    return {"val": "validation"}.get(dataset.split, dataset.split)


def picture_section(dataset: DetectionDataset, found: Sequence[Detections]) -> Section:
    """Pictures from all over the data set: ground truth on the left, detections on the right."""
    places = np.unique(np.linspace(0, len(dataset) - 1, PICTURES).round().astype(int))
    # labels of detections are those of the data set, see `detect`
    items = [_picture(dataset[int(i)], found[int(i)], dataset.class_names) for i in places]
    note = (
        f"Left what was labelled, right what is found with a score of {SHOWN_SCORE:g} or more; "
        f"{len(items)} of {len(dataset)} {split_name(dataset)} images, evenly spread."
    )
    names = dataset.class_names if len(dataset.class_names) <= MOST_NAMES else ()
    key = [(name, class_colour(label)) for label, name in enumerate(names)]
    return Section("Pictures", pictures(items, key=key), note)


def _picture(record: Record, found: Detections, class_names: Sequence[str]) -> Picture:
    image, scale = fit_to(read_image(record.path))
    shown = found.above(SHOWN_SCORE)
    labelled = f"{record.path.name}: {len(record)} labelled"
    scaled = Detections(shown.boxes_xyxy * scale, shown.scores, shown.labels)
    # many names on a crowded picture hide what they name; the colours tell the classes then
    crowded = max(len(record), len(shown)) > MOST_NAMES
    texts = [""] * len(record)
    if crowded:
        right = draw_boxes(image, scaled.boxes_xyxy, scaled.labels, [""] * len(shown))
    else:
        texts = [class_names[int(label)] for label in record.labels]
        right = draw_detections(image, scaled, class_names, score=0)
    left = draw_boxes(image, record.boxes_xyxy * scale, record.labels, texts)
    return Picture(left, right, labelled, f"{len(shown)} found")
