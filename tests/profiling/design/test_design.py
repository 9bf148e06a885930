"""From data and a budget to presets and a page, over a space of a few detectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.data.voc import load_voc
from flyweight.models.detectors.zoo import build
from flyweight.profiling.advice.advice import price_of
from flyweight.profiling.config_cost import cost_of
from flyweight.profiling.design.budget import parse_budget
from flyweight.profiling.design.design import Design, design, save_presets
from flyweight.profiling.design.design_report import design_report
from flyweight.profiling.design.space import HEADS, Candidate, Space, space_of
from flyweight.reports.page import render
from tests.html_page import Page, refers_outside
from tests.profiling.advice.hand_made import BytesTakeTime

FEW = {
    "backbone": ("mobilenet_v1", "snet49"),
    "width": (0.25, 0.5),
    "size": (96,),
    "neck_width": (0.5,),
    "head_width": (1.0,),
    "levels": (4,),
}
LATENCY = BytesTakeTime()


@pytest.fixture(scope="module")
def dataset(bccd_dir: Path) -> DetectionDataset:
    return load_voc(bccd_dir, "train")


@pytest.fixture(scope="module")
def found(dataset: DetectionDataset) -> Design:
    few = Space(FEW, HEADS["ssdlite"].build)
    return design(dataset, parse_budget("3.2 ms"), latency=LATENCY, space=few)


def test_the_few_are_priced_and_the_best_that_fit_recommended(found: Design) -> None:
    assert len(found.tried) == 4
    for each in found.tried:
        assert each.price == price_of(cost_of(each.config), LATENCY)
        assert each.spent == each.price.milliseconds
    within = [each for each in found.tried if each.spent <= 3.2]
    assert 1 <= len(within) < 4
    best = max(within, key=lambda each: each.capacity.value)
    assert found.recommended[0].candidate == best.candidate
    assert {each.spent for each in found.recommended} <= {each.spent for each in within}


def test_wider_and_equal_otherwise_is_dearer_and_worth_more(found: Design) -> None:
    by_candidate = {each.candidate: each for each in found.tried}
    for candidate, each in by_candidate.items():
        if candidate.width == 0.25:
            wide = by_candidate[replace(candidate, width=0.5)]
            assert wide.spent > each.spent
            assert wide.capacity.value > each.capacity.value


def test_presets_build_what_was_priced(found: Design, tmp_path: Path) -> None:
    paths = save_presets(found, tmp_path)
    assert [path.name[:2] for path in paths] == [f"{n}_" for n in range(1, len(paths) + 1)]
    for path, each in zip(paths, found.recommended, strict=True):
        detector = build(str(path), classes=["RBC", "WBC", "Platelets"])
        assert detector.config == each.config
        built = sum(weight.numel() for weight in detector.model.parameters())
        norms = cost_of(each.config).params
        # BatchNorm is folded in what was priced: a bias in place of weight and bias
        assert norms == each.price.params
        assert norms < built < 1.1 * norms


def test_recommended_anchors_are_fitted(found: Design) -> None:
    for each in found.recommended:
        searched = next(every for every in found.tried if every.candidate == each.candidate)
        assert each.config.default_boxes != searched.config.default_boxes  # type: ignore[attr-defined]
        assert price_of(cost_of(each.config), LATENCY) == searched.price


def test_a_budget_for_nothing_is_refused(dataset: DetectionDataset) -> None:
    one = Space({**FEW, "backbone": ("snet49",), "width": (0.25,)}, HEADS["ssdlite"].build)
    with pytest.raises(InputError, match="the cheapest of 1 takes"):
        design(dataset, parse_budget("1 kB"), space=one)
    with pytest.raises(InputError, match="--calibrate"):
        design(dataset, parse_budget("8 ms"), space=one)


def test_page_stands_alone_and_shows_what_was_found(found: Design, tmp_path: Path) -> None:
    text = render(design_report(found, save_presets(found, tmp_path), data="<cells>"))
    page = Page(text)
    assert refers_outside(text) == []
    assert len(page.all("svg")) == 1
    shown = " ".join(page.text)
    assert "of <cells>" in shown
    for place, each in enumerate(found.recommended, start=1):
        assert f"{place}_{each.candidate.backbone}.yaml" in shown
        assert found.budget.shown(each.spent) in shown


def candidates_of(space: Space) -> list[Candidate]:
    """The first and the last value of each axis, and one in the middle."""
    middle = {name: values[len(values) // 2] for name, values in space.axes.items()}
    dear = {name: values[-1] for name, values in space.axes.items()} | {"backbone": "snet49"}
    return [Candidate(**middle), Candidate(**dear)]


@pytest.mark.parametrize("head", HEADS)
def test_every_space_makes_detectors_as_it_says(head: str) -> None:
    middle, dear = candidates_of(HEADS[head])
    for candidate in (middle, dear):
        config = HEADS[head].build(candidate, 3)
        assert config.backbone == candidate.backbone
        assert config.size_hw == (candidate.size, candidate.size)
        assert config.width == candidate.width
    cost = cost_of(HEADS[head].build(dear, 3))
    assert cost.macs > 0
    assert len(cost.input_shape) == 4


def test_prices_grow_along_every_axis_but_the_backbone() -> None:
    """What the search relies on to leave out what must be too dear."""
    space = HEADS["retinanet"]
    start = Candidate("mobilenet_v1", 0.25, 160, 0.5, 0.5, 3)
    base = cost_of(space.build(start, 3)).macs
    for name, values in space.axes.items():
        if name != "backbone":
            further = replace(start, **{name: values[values.index(getattr(start, name)) + 1]})
            assert cost_of(space.build(further, 3)).macs > base, name


def test_unknown_heads_are_refused() -> None:
    with pytest.raises(InputError, match="no design space for the head 'detr'"):
        space_of("detr")
    assert len(space_of("ssdlite")) == np.prod([len(v) for v in HEADS["ssdlite"].axes.values()])
