"""The page of a design: the Pareto plot, what to train, and what the ranking rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flyweight.profiling.design.budget import MACS
from flyweight.profiling.design.capacity import BEYOND, PUBLISHED, SCALING
from flyweight.profiling.design.design import Design
from flyweight.profiling.design.pareto_chart import pareto_chart
from flyweight.profiling.design.search import Designed
from flyweight.profiling.design.space import Candidate
from flyweight.reports.page import Report, Section, settings, table

QUANTILES = (5, 25, 50, 75, 95)
ONE_COLUMN = "grid-template-columns:1fr"
# Of the front, a row for every so much more capacity; the plot has all of it.
LEAST_STEP = 0.005


def design_report(found: Design, presets: Sequence[Path] = (), *, data: str = "") -> Report:
    """The page.

    Args:
        presets: files of the recommended detectors, in their order.
        data: what the data set is called.
    """
    budget = found.budget
    best = found.recommended[0]
    within = sum(each.spent <= budget.limit for each in found.tried)
    return Report(
        title=f"Detectors for {budget.shown(budget.limit)}",
        subtitle=f"head {found.head}, designed for {len(found.object_sides):,} objects"
        + (f" of {data}" if data else ""),
        figures=[
            (budget.shown(best.spent), f"the first takes, of {budget.shown(budget.limit)}"),
            (best.candidate.backbone.replace("_", " "), f"at {best.candidate.size} pixels"),
            (f"{len(found.tried):,}", "candidates traced"),
            (f"{within:,}", "within the budget"),
        ],
        sections=[
            Section(
                "What they cost and may be worth",
                f'<div class="charts" style="{ONE_COLUMN}">{pareto_chart(found)}</div>',
                note="Each dot is a detector that nobody has built. Prices are predicted, "
                "without NMS; capacity is a proxy, explained below.",
            ),
            Section(
                "Worth training",
                _recommended(found, presets),
                note="The best of each backbone within the budget, with anchors fitted to the "
                "data. Between backbones the proxy knows least: train two or three and compare, "
                "each with: flyweight train FILE --data DATA --out RUN",
            ),
            Section("The Pareto front", _front(found), note=_FRONT_NOTE),
            Section("What capacity is", _basis(found), note=_CAPACITY_NOTE),
        ],
    )


_FRONT_NOTE = (
    "No other candidate is both cheaper and of more capacity; rows less than 0.005 above the one "
    "before are left out. Beyond the budget the search looks only by chance."
)
_CAPACITY_NOTE = (
    "Accuracy times seen. Accuracy is the backbone's published top-1 on "
    f"ImageNet, moved to the candidate's MACs by error ~ MACs^-{SCALING} (which the width and "
    "resolution tables of MobileNetV1, MobileNetV2 and ShuffleNetV2 follow); MACs of neck and head "
    f"count with {BEYOND} of that exponent, which is a choice. Seen is visible times contained: "
    "objects of two cells of the finest level count whole, of half a cell not at all; objects "
    "larger than the largest receptive field count by the share that is seen. It knows nothing of "
    "pretraining, of losses and of how much data there is: differences of 0.01 mean nothing."
)


def _recommended(found: Design, presets: Sequence[Path]) -> str:
    names = [path.name for path in presets] or [
        f"{place}. {each.candidate.backbone}" for place, each in enumerate(found.recommended, 1)
    ]
    rows = [
        [name, *row[1:], f"{each.capacity.visible * each.capacity.contained:.3f}"]
        for name, each, row in zip(
            names, found.recommended, _rows(found, found.recommended), strict=True
        )
    ]
    shares = [each.spent / found.budget.limit for each in found.recommended]
    return table([*_columns(found), "seen"], rows, bars={2: shares})


def _front(found: Design) -> str:
    shown: list[Designed] = []
    for each in found.front:
        if not shown or each.capacity.value >= shown[-1].capacity.value + LEAST_STEP:
            shown.append(each)
    return table(_columns(found), _rows(found, shown))


def _columns(found: Design) -> list[str]:
    counted = [] if found.budget.metric == MACS else ["MMACs"]
    return ["detector", "shape", "price", *counted, "M params", "capacity"]


def _rows(found: Design, designed: Sequence[Designed]) -> list[list[str]]:
    rows = []
    for each in designed:
        counted = [] if found.budget.metric == MACS else [f"{each.price.macs / 1e6:,.0f}"]
        rows.append([
            each.candidate.backbone,
            _shape(each.candidate),
            found.budget.shown(each.spent),
            *counted,
            f"{each.price.params / 1e6:.2f}",
            f"{each.capacity.value:.3f}",
        ])  # fmt: skip
    return rows


def _shape(candidate: Candidate) -> str:
    head = "" if candidate.head_width == 1 else f", head ×{candidate.head_width:g}"
    return (
        f"{candidate.size} px, α {candidate.width:g}, neck ×{candidate.neck_width:g}{head}, "
        f"{candidate.levels} levels"
    )


def _basis(found: Design) -> str:
    used = dict.fromkeys(each.candidate.backbone for each in found.recommended)
    size = found.recommended[0].candidate.size
    sizes: list[float] = []
    if len(found.object_sides):
        sizes = np.percentile(found.object_sides, QUANTILES).tolist()
    facts = {
        f"objects' side, percentile {quantile}": f"{side:.1%} of the picture, "
        f"{side * size:.0f} of {size} pixels"
        for quantile, side in zip(QUANTILES, sizes, strict=False)
    }
    facts |= {
        f"{name}, ImageNet": f"{PUBLISHED[name].top1} % at {PUBLISHED[name].mmacs:g} MMACs "
        f"({PUBLISHED[name].source})"
        for name in used
        if name in PUBLISHED
    }
    return settings(facts)
