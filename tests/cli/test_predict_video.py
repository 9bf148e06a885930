"""`flyweight predict` on videos: frames in order, numbers of tracks, one file out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flyweight.core.image import read_image
from flyweight.runtime.video_file import video_file

Run = Callable[..., Any]


@pytest.fixture
def clip(picture: Path, tmp_path: Path) -> Path:
    """Twelve frames of one picture that moves."""
    image = read_image(picture)
    path = tmp_path / "clip.mp4"
    with video_file(path, frames_per_second=12) as append:
        for shift in range(12):
            append(np.ascontiguousarray(np.roll(image, shift, axis=1)))
    return path


def test_one_video_out(flyweight: Run, tiny_onnx: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("predict", tiny_onnx, clip, "--score", "0.01", "--out", out, "--video", "--json")
    images = flyweight(*words).json["images"]
    assert [each["path"] for each in images] == [f"{clip}#{number:06d}" for number in range(12)]
    assert sorted(path.name for path in out.iterdir()) == ["clip.mp4", "detections.json"]
    drawn, plain = cv2.VideoCapture(str(out / "clip.mp4")), cv2.VideoCapture(str(clip))
    for wanted in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH):
        assert drawn.get(wanted) == plain.get(wanted)
    # Boxes were drawn: it is not the same video.
    assert np.abs(drawn.read()[1].astype(int) - plain.read()[1]).max() > 50


def test_tracks(flyweight: Run, tiny_onnx: Path, clip: Path) -> None:
    """Tracking adds numbers and changes nothing else."""
    pytest.importorskip("edgefirst.tracker", reason="tracking needs the extra `track`")
    words = ("predict", tiny_onnx, clip, "--score", "0.01", "--json")
    plain, tracked = flyweight(*words).json["images"], flyweight(*words, "--track").json["images"]
    assert sum(len(image["detections"]) for image in plain) > 0
    numbers = [each.pop("track") for image in tracked for each in image["detections"]]
    assert all(number is None or number >= 1 for number in numbers)
    assert tracked == plain


@pytest.mark.parametrize("flag", ["--track", "--video"])
def test_pictures_do_not_follow_each_other(
    flyweight: Run, tiny_onnx: Path, picture: Path, tmp_path: Path, flag: str
) -> None:
    out = tmp_path / "out"
    flyweight("predict", tiny_onnx, picture, "--out", out, flag).assert_refused(
        "only the frames of a video", "leave --track and --video out"
    )
    assert not out.exists()


def test_a_video_needs_a_place(flyweight: Run, tiny_onnx: Path, clip: Path) -> None:
    flyweight("predict", tiny_onnx, clip, "--video").assert_refused("--video", "add --out DIR")
