"""Hand-worked margins and orders."""

from __future__ import annotations

from typing import Any

import pytest

from flyweight.labeling.review_doubt import by_doubt, margin, thresholds_by_category

THRESHOLD_OF = {1: 0.5, 2: 0.8}


def box(score: float | None, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"category_id": category, **({} if score is None else {"score": score}), **more}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (box(0.9), 0.4),
        (box(0.3), 0.2),
        (box(0.7, 2), 0.1),
        (box(0.9, 3), 0.4),  # a class without a threshold: 0.5
        (box(None), 1.0),
        (box(0.5, reviewed="accepted"), 1.0),
    ],
)
def test_margin(annotation: dict[str, Any], expected: float) -> None:
    assert margin(annotation, THRESHOLD_OF) == pytest.approx(expected)


def test_thresholds_of_a_file() -> None:
    categories = [{"id": 4, "name": "pen"}, {"id": 7, "name": "cup"}, {"id": 9, "name": "book"}]
    info = {"thresholds": [{"name": "cup", "upper": 0.25}, {"name": "pen", "upper": None}]}
    assert thresholds_by_category(info, categories) == {4: 1.0, 7: 0.25, 9: 0.5}
    assert thresholds_by_category(None, categories) == {4: 0.5, 7: 0.5, 9: 0.5}


def test_pictures_by_their_least_certain_box() -> None:
    pictures = [
        [],
        [box(0.95), box(0.7, 2)],  # 0.45, 0.1
        [box(0.95), box(0.52)],  # 0.45, 0.02
        [box(0.5, reviewed="fixed")],
        [box(0.48), box(0.51)],  # 0.02, 0.01
        [box(0.7, 2), box(0.4), box(0.6)],  # 0.1 three times
    ]
    assert by_doubt(pictures, THRESHOLD_OF) == [4, 2, 5, 1, 0, 3]
