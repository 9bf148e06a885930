from __future__ import annotations

import pytest

from flyweight.core.errors import InputError
from flyweight.data.class_mapping import check_renamed, map_classes
from flyweight.data.class_names import COCO, VOC


def test_a_coco_teacher_knows_all_of_voc() -> None:
    labels = map_classes(COCO, VOC)
    found = {VOC[label]: COCO[number] for number, label in enumerate(labels) if label >= 0}
    assert len(found) == 20
    assert found["sofa"] == "couch"
    assert found["tvmonitor"] == "tv"
    assert found["dog"] == "dog"
    assert labels[COCO.index("truck")] == -1


def test_a_name_that_is_given_goes_first() -> None:
    labels = map_classes(
        ["person", "car", "truck", "van"],
        ["vehicle", "player", "car"],
        renamed={"person": "player", "truck": "vehicle", "van": "vehicle", "lorry": "vehicle"},
    )
    assert labels.tolist() == [1, 2, 0, 0]


def test_a_class_that_the_teacher_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"no class for 'WBC', 'RBC'; it has .*'person'") as caught:
        map_classes(COCO, ["dog", "WBC", "RBC"], where="teacher.onnx")
    assert "--map" in str(caught.value)
    assert "teacher.onnx" in str(caught.value)


def test_a_class_that_is_given_away_is_missing() -> None:
    with pytest.raises(InputError, match="no class for 'person'"):
        map_classes(["person"], ["person", "player"], renamed={"person": "player"})


def test_names_that_nobody_knows() -> None:
    check_renamed({"a": "x"}, ["x"], [["b"], ["a"]])
    with pytest.raises(InputError, match="no teacher has a class 'c'"):
        check_renamed({"c": "x"}, ["x"], [["b"], ["a"]])
    with pytest.raises(InputError, match="the data has no class 'y'"):
        check_renamed({"a": "y"}, ["x"], [["a"]])
