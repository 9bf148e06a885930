"""Each decision on hand-made annotations."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.labeling.review_decision import Decision, carry_out

SURE = {
    "id": 1, "image_id": 5, "category_id": 1, "bbox": [4, 6, 20, 16], "area": 320, "iscrowd": 0,
    "score": 0.9, "votes": 2, "teachers": ["A"],
}  # fmt: skip
UNSURE = SURE | {"id": 2, "bbox": [30, 30, 10, 10], "iscrowd": 1, "uncertain": 1, "score": 0.3}
CROWD = {"id": 3, "image_id": 5, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1}
ALL = [SURE, UNSURE, CROWD]


def after(**decision: Any) -> list[dict[str, Any]]:
    before = copy.deepcopy(ALL)
    made = carry_out(
        Decision.from_json(decision),
        ALL,
        size_hw=(60, 80),
        image_id=5,
        category_ids=[1, 2],
        new_id=9,
    )
    assert before == ALL
    return made


def test_accept() -> None:
    assert after(action="accept", box=1) == [SURE | {"reviewed": "accepted"}, UNSURE, CROWD]
    ordinary = {name: value for name, value in UNSURE.items() if name != "uncertain"}
    accepted = ordinary | {"iscrowd": 0, "reviewed": "accepted"}
    assert after(action="accept", box=2) == [SURE, accepted, CROWD]
    # a crowd that COCO means stays one
    assert after(action="accept", box=3)[2] == CROWD | {"reviewed": "accepted"}


def test_drop() -> None:
    assert after(action="drop", box=2) == [SURE, CROWD]


def test_fix() -> None:
    fixed = after(action="fix", box=1, box_xyxy=[5.001, 7, 25, 90.5])[0]
    # cut at the lower border, 60
    assert fixed == SURE | {"bbox": [5, 7, 20, 53], "area": 1060, "reviewed": "fixed"}
    assert after(action="fix", box=1, category=2)[0] == SURE | {
        "category_id": 2,
        "reviewed": "fixed",
    }
    # corners in either order
    assert after(action="fix", box=1, box_xyxy=[25, 20, 5, 7])[0]["bbox"] == [5, 7, 20, 13]


def test_add() -> None:
    added = after(action="add", box_xyxy=[1, 2, 4, 6], category=2)[-1]
    assert added == {
        "id": 9, "image_id": 5, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
        "reviewed": "added",
    }  # fmt: skip


def test_what_a_box_was_is_not_forgotten() -> None:
    """An added box that is fixed stays an added one, a fixed one that is accepted a fixed one."""
    for mark, action in (("added", "fix"), ("added", "accept"), ("fixed", "accept")):
        decision = Decision(action, box=1, category=2 if action == "fix" else None)
        [made] = carry_out(
            decision,
            [SURE | {"reviewed": mark}],
            size_hw=(60, 80),
            image_id=5,
            category_ids=[1, 2],
            new_id=9,
        )
        assert made["reviewed"] == mark


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"action": "burn"}, "no such action"),
        ({"action": "accept"}, "no box is named"),
        ({"action": "accept", "box": True}, "no box is named"),
        ({"action": "drop", "box": 77}, "no box 77"),
        ({"action": "fix", "box": 1}, "corners or a class"),
        ({"action": "fix", "box": 1, "category": 3}, "no class 3"),
        ({"action": "fix", "box": 1, "box_xyxy": [1, 2, 3]}, "four corners"),
        ({"action": "fix", "box": 1, "box_xyxy": [1, 2, 3, "4"]}, "numbers"),
        ({"action": "fix", "box": 1, "box_xyxy": [1, 2, 3, float("nan")]}, "finite"),
        ({"action": "fix", "box": 1, "box_xyxy": [1, 2, 1.5, 9]}, "smaller than a pixel"),
        ({"action": "add", "box_xyxy": [90, 2, 99, 9], "category": 1}, "smaller than a pixel"),
        ({"action": "add", "box_xyxy": [1, 2, 8, 9]}, "corners and a class"),
    ],
)
def test_what_is_no_decision(decision: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        after(**decision)
