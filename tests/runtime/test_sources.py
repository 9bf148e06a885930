from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.runtime.sources import iterate_source


def test_a_video_gives_its_frames_in_rgb(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for level in (0, 100, 200):
        writer.write(np.full((48, 64, 3), (0, 0, level), np.uint8))
    writer.release()
    frames = list(iterate_source(path))
    assert [frame.name for frame in frames] == [f"{path}#{index:06d}" for index in range(3)]
    assert frames[2].image.shape == (48, 64, 3)
    np.testing.assert_allclose(frames[2].image.mean(axis=(0, 1)), [200, 0, 0], atol=6)


def test_an_array_and_a_list(tmp_path: Path) -> None:
    image = np.full((5, 7, 3), 9, np.uint8)
    write_image(tmp_path / "one.png", image)
    (frame,) = iterate_source(image)
    assert frame.name == "array"
    frames = list(iterate_source([tmp_path / "one.png", str(tmp_path / "one.png")]))
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[1].image, image)


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(iterate_source(tmp_path / "nowhere.jpg"))
    with pytest.raises(InputError, match="does not exist"):
        list(iterate_source(tmp_path / "nowhere.mp4"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        list(iterate_source(tmp_path / "empty"))
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 20)
    with pytest.raises(InputError, match="cannot be opened"):
        list(iterate_source(tmp_path / "broken.mp4"))


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(InputError, match="the camera cannot be opened"):
        list(iterate_source("97"))
