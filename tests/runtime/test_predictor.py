from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.runtime.load import load_predictor
from flyweight.runtime.predictor import Predictor

RED = [48, 16, 72, 32]
BLUE = [0, 48, 24, 64]


def check(found: Detections) -> None:
    assert found.labels.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [1.0, 0.8], atol=0.01)
    np.testing.assert_allclose(found.boxes_xyxy, [RED, BLUE], atol=1e-3)


def test_boxes_are_in_the_pixels_of_the_picture(opened: Predictor, picture: np.ndarray) -> None:
    check(opened.predict(picture))
    assert opened.class_names == ("red", "green", "blue")


def test_a_higher_score_leaves_out_the_weaker(opened: Predictor, picture: np.ndarray) -> None:
    assert opened.predict(picture, score=0.9).labels.tolist() == [0]
    assert len(opened.predict(picture, score=1.0)) == 0


def test_a_batch_keeps_low_scores_and_order(opened: Predictor, picture: np.ndarray) -> None:
    dim = picture // 5
    first, second, nothing = opened.predict_batch([picture, dim, np.zeros_like(picture)])
    check(first)
    np.testing.assert_allclose(second.scores, [0.2, 0.157], atol=0.01)
    assert len(nothing) == 0
    assert opened.predict_batch([]) == []
    assert len(opened.predict(dim)) == 0


@pytest.mark.parametrize("batch", [3, "N"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_files_of_any_batch(
    save_model: Callable[..., Path], picture: np.ndarray, batch: int | str, runtime: str
) -> None:
    predictor = load_predictor(save_model(batch=batch), threads=1, runtime=runtime)
    assert predictor.session.batch == (batch if batch == 3 else None)
    for found in predictor.predict_batch([picture] * 4):
        check(found)


def test_letterbox_is_undone(save_model: Callable[..., Path]) -> None:
    preprocessing = Preprocessing(size_hw=(32, 32), resize="letterbox", pad_value=0)
    predictor = load_predictor(save_model(preprocessing=preprocessing), threads=1)
    image = np.zeros((32, 64, 3), np.uint8)
    image[0:16, 16:32, 1] = 255
    found = predictor.predict(image)
    # Half as large and 8 rows down: row 1, column 1 of the cells.
    np.testing.assert_allclose(found.boxes_xyxy, [[16, 0, 32, 16]], atol=1e-3)
    assert found.labels.tolist() == [1]


def test_a_file_decoded_at_reduced_size_gives_boxes_of_its_own_size(
    save_model: Callable[..., Path], tmp_path: Path, picture: np.ndarray
) -> None:
    predictor = load_predictor(save_model(), threads=1)
    large = np.kron(picture, np.ones((8, 8, 1), np.uint8))
    write_image(tmp_path / "large.jpg", large)
    found = predictor.predict(tmp_path / "large.jpg")
    assert found.labels.tolist() == [0, 2]
    np.testing.assert_allclose(found.boxes_xyxy, np.array([RED, BLUE]) * 8, atol=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(save_model: Callable[..., Path], wrong: Any) -> None:
    predictor = load_predictor(save_model(), threads=1)
    with pytest.raises(InputError, match="no picture"):
        predictor.predict(wrong)
    with pytest.raises(InputError, match="no picture"):
        predictor.predict_batch([wrong])


def test_a_folder(save_model: Callable[..., Path], tmp_path: Path, picture: np.ndarray) -> None:
    folder = tmp_path / "pictures"
    write_image(folder / "b.png", picture)
    write_image(folder / "sub" / "c.png", np.zeros_like(picture))
    write_image(folder / "a.png", picture)
    (folder / "notes.txt").write_text("no picture")
    predictor = load_predictor(save_model(), threads=1)
    results = list(predictor.predict_source(folder))
    assert [Path(name).name for name, _, _ in results] == ["a.png", "b.png", "c.png"]
    assert [len(found) for _, _, found in results] == [2, 2, 0]
    np.testing.assert_array_equal(results[0][1], picture)
