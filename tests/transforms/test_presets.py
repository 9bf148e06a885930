from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.image import read_image, write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms import build_transform
from flyweight.transforms.presets import TRANSFORMS
from tests.transforms.coloured_scenes import MODES, run_scene, transform_of


@pytest.mark.parametrize("name", ["yolov4", "yolox", "tiny_data"])
def test_slivers_are_dropped(name: str) -> None:
    """Boxes are a tenth of the whole object at least where a preset asks for it."""
    preset = transform_of(name, "stretch", (320, 320))
    kept, dropped = 0, 0
    for seed in range(30):
        _, _, all_labels = run_scene(preset, seed, (200, 260))
        _, _, labels = run_scene(replace(preset, min_visible=0.1), seed, (200, 260))
        assert set(labels) <= set(all_labels)
        kept, dropped = kept + len(labels), dropped + len(all_labels) - len(labels)
    assert 0 < dropped < kept / 4


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("size_hw", [(480, 640), (100, 50), (96, 120), (33, 700)])
def test_none_is_the_preprocessing_itself(
    mode: str, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    boxes = np.array([[1, 2, 30, 31]], dtype=np.float32)
    write_image(tmp_path / "picture.jpg", picture)
    preprocessing = Preprocessing((96, 120), resize=mode)  # type: ignore[arg-type]
    transform = build_transform("none", preprocessing)
    for source in (picture, tmp_path / "picture.jpg"):
        image, out_boxes, _ = transform(
            source, boxes, np.array([0]), size_hw=size_hw, rng=np.random.default_rng(0)
        )
        read = source
        if isinstance(read, Path):
            read = read_image(read, min_size_hw=preprocessing.content_size_hw(size_hw))
        expected, _ = preprocessing.apply(read)
        np.testing.assert_array_equal(image, expected)
        matrix = preprocessing.matrix(size_hw)
        moved = boxes.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose(out_boxes, moved.reshape(1, 4), atol=1e-3)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_same_seed_gives_the_same_bytes(name: str, bccd_dir: Path) -> None:
    path = sorted((bccd_dir / "JPEGImages").glob("*.jpg"))[0]
    boxes, labels = np.array([[50, 60, 300, 310]], dtype=np.float32), np.array([1])
    transform = build_transform(name, Preprocessing((64, 64)))

    def run(seed: int) -> bytes:
        results = transform(
            path, boxes, labels, size_hw=(480, 640), rng=np.random.default_rng(seed)
        )
        return b"".join(result.tobytes() for result in results)

    runs = [run(seed) for seed in range(12)]
    assert runs == [run(seed) for seed in range(12)]
    assert (len(set(runs)) == 1) == (name == "none")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_picture_without_boxes(name: str) -> None:
    picture = np.zeros((50, 70, 3), np.uint8)
    for seed in range(8):
        image, boxes, labels = build_transform(name, Preprocessing((32, 48)))(
            picture,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            size_hw=(50, 70),
            rng=np.random.default_rng(seed),
        )
        assert image.shape == (32, 48, 3)
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)


def test_an_unknown_name_tells_the_nearest() -> None:
    with pytest.raises(InputError, match="'ssdlite'"):
        build_transform("ssdlight", Preprocessing())
