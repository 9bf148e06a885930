from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import read_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.teacher import NamedTeacher
from flyweight.labeling.views import make_views


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.7)])
def test_what_all_looks_see_is_where_it_is(
    unlabelled: DetectionDataset,
    teacher: object,
    labeler_of: Callable[..., Labeler],
    scales: tuple[float, ...],
) -> None:
    labeler = labeler_of(teacher, scales=scales)
    images = [read_image(record.path) for record in unlabelled.records]
    for record, fused in zip(unlabelled.records, labeler(images), strict=True):
        order = np.argsort(fused.detections.labels)
        np.testing.assert_array_equal(fused.detections.labels[order], record.labels)
        np.testing.assert_allclose(fused.detections.boxes_xyxy[order], record.boxes_xyxy, atol=1e-4)
        assert fused.found_by.shape == (len(record), 2 * len(scales))
        assert (fused.votes == 2 * len(scales)).all()


def test_who_found_a_box(teacher: Any, labeler_of: Callable[..., Labeler]) -> None:
    """A teacher that is blind for green: a box of its views is the others' alone."""
    blind = type(teacher)(score=0.0)
    labeler = labeler_of(teacher, blind)
    image = np.full((48, 80, 3), 120, np.uint8)
    image[10:30, 10:40] = [0, 255, 0]
    [fused] = labeler([image])
    assert len(fused) == 1
    assert fused.votes.tolist() == [2]
    np.testing.assert_array_equal(labeler.teachers_of(fused.found_by), [[True, False]])
    # half of the sources saw nothing
    np.testing.assert_allclose(fused.detections.scores, [0.9 / 2], atol=1e-6)


def test_pictures_are_read_as_large_as_the_closest_view_needs() -> None:
    class Sized:
        class_names = ("a",)

        def __init__(self, *size_hw: int) -> None:
            self.preprocessing = Preprocessing(size_hw=(size_hw[0], size_hw[1]))

        def predict_batch(self, images: list[np.ndarray]) -> list[object]:
            raise NotImplementedError

    def named(*sizes: tuple[int, int]) -> list[NamedTeacher]:
        return [NamedTeacher("t", "0", Sized(*size), np.arange(1)) for size in sizes]  # type: ignore[arg-type]

    views = make_views([0.5, 1.5], flip=True)
    assert Labeler(named((320, 300), (300, 416)), views).decode_size_hw == (480, 624)
    assert Labeler(named((320, 320)), make_views([0.5], flip=False)).decode_size_hw == (320, 320)


def test_what_decides_is_written_down(labeler: Labeler) -> None:
    described = labeler.describe()
    assert described["views"] == ["1", "1 flipped"]
    assert described["teachers"][0]["sha256"] == "0" * 64
