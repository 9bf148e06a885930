from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.file_digest import file_sha256
from flyweight.core.image import Image
from flyweight.labeling.teacher import (
    NamedTeacher,
    Teacher,
    open_teachers,
    teacher_names,
)
from tests.labeling.plain_detections import detections_of

IMAGE = np.zeros((10, 10, 3), np.uint8)


class Fixed:
    """Finds one box of each of its classes."""

    class_names: tuple[str, ...] = ("person", "dog", "kite")
    size_hw: tuple[int, int] | None = None

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        boxes = [[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]]
        return [detections_of(boxes, [0.9, 0.8, 0.7], [0, 1, 2]) for _ in images]


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return [folder / name for name in names]


def test_teachers_speak_of_the_datas_classes(tmp_path: Path) -> None:
    paths = files(tmp_path, "a/best.safetensors", "b/best.safetensors")
    teacher: Teacher = Fixed()
    first, second = open_teachers(
        paths, ["dog", "player"], load=lambda path: teacher, renamed={"person": "player"}
    )
    assert (first.name, second.name) == ("a/best.safetensors", "b/best.safetensors")
    assert first.sha256 == hashlib.sha256(b"a/best.safetensors").hexdigest()
    [found] = first.predict_batch([IMAGE])
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 1, 1], [1, 1, 2, 2]])


def test_classes_that_do_not_map(tmp_path: Path) -> None:
    paths = files(tmp_path, "a.safetensors")
    with pytest.raises(InputError, match=r"no class for 'cat'.*a\.safetensors"):
        open_teachers(paths, ["cat", "dog"], load=lambda path: Fixed())
    with pytest.raises(InputError, match="no teacher has a class 'men'"):
        open_teachers(paths, ["dog"], load=lambda path: Fixed(), renamed={"men": "dog"})


def test_the_same_teacher_twice(tmp_path: Path) -> None:
    paths = files(tmp_path, "a.safetensors", "b.safetensors")
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(InputError, match="given twice"):
        open_teachers(paths, ["dog"], load=lambda path: Fixed())


def test_names_tell_files_apart() -> None:
    assert teacher_names([Path("x/a.onnx"), Path("x/b.onnx")]) == ["a.onnx", "b.onnx"]
    assert teacher_names([Path("r/x/a.onnx"), Path("s/x/a.onnx")]) == ["r/x/a.onnx", "s/x/a.onnx"]


def test_weights_beside_an_xml_count(tmp_path: Path) -> None:
    xml, weights = files(tmp_path, "a.xml", "a.bin")
    before = file_sha256(xml)
    assert before == hashlib.sha256(b"a.xmla.bin").hexdigest()
    weights.write_text("others")
    assert file_sha256(xml) != before


def test_how_large_a_picture_must_be_read() -> None:
    named = NamedTeacher("a", "0", Fixed(), np.arange(3))
    assert named.decode_size_hw is None
    sized = Fixed()
    sized.size_hw = (320, 416)
    assert NamedTeacher("a", "0", sized, np.arange(3)).decode_size_hw == (320, 416)
