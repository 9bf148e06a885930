"""Streams give what a plain loop gives, keep nothing waiting, and end cleanly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.runtime import stream as stream_room
from flyweight.runtime.load import load_predictor
from flyweight.runtime.sources import Frame, frames_per_second, is_video
from flyweight.runtime.stream import WAITING, Stream
from flyweight.runtime.video_file import video_file

Image = np.ndarray


class SlowPredictor:
    """Says what number is painted into a picture, after a while."""

    class_names = ("thing",)

    def __init__(self, seconds: float = 0.0, *, fails_at: int | None = None) -> None:
        self.seconds = seconds
        self.fails_at = fails_at
        self.threads: set[str] = set()

    def predict(self, image: Any, *, score: float = 0.3) -> Detections:
        number = int(image[0, 0, 0])
        if number == self.fails_at:
            raise InputError("this picture is cursed")
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        return Detections(np.full((1, 4), number), np.array([0.9]), np.array([0]))


def numbered(count: int, seconds: float = 0.0, read: list[int] | None = None) -> Iterator[Frame]:
    """Pictures with their number in the first pixel, one every `seconds`."""
    for number in range(count):
        time.sleep(seconds)
        if read is not None:
            read.append(number)
        yield Frame(f"clip#{number}", np.full((4, 4, 3), number, np.uint8))


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make every source be `numbered(...)`."""

    def be(*arguments: Any) -> None:
        monkeypatch.setattr(stream_room, "iterate_source", lambda _: numbered(*arguments))

    return be


def test_every_frame_of_a_file_comes_in_order(source: Callable[..., None]) -> None:
    source(40)
    predictor = SlowPredictor(0.002)
    stream = Stream(predictor, "clip", drop=False)
    frames = list(stream)
    assert [frame.index for frame in frames] == list(range(40))
    assert [int(frame.detections.boxes_xyxy[0, 0]) for frame in frames] == list(range(40))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(40))
    assert (stream.read, stream.dropped) == (40, 0)
    assert threading.current_thread().name not in predictor.threads


def test_a_slow_caller_holds_a_file_back(source: Callable[..., None]) -> None:
    """Nothing is queued without bound: reading waits when two lanes and three hands are full."""
    read: list[int] = []
    source(100, 0.0, read)
    for frame in Stream(SlowPredictor(), "clip", drop=False):
        if frame.index == 0:
            time.sleep(0.3)
            assert len(read) <= 2 * WAITING + 3
            break
    assert len(read) < 12


def test_a_camera_never_waits_and_is_never_old(source: Callable[..., None]) -> None:
    """100 frames a second into 20 of the network: most are dropped, the last ones come."""
    source(60, 0.01)
    stream = Stream(SlowPredictor(0.05), "0")
    begin = time.perf_counter()
    frames = list(stream)
    assert time.perf_counter() - begin < 2.0  # all 60 through the network would take 3
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert indices[-1] == 59
    assert stream.read == 60
    assert stream.dropped == 60 - len(frames) > 20


@pytest.mark.parametrize("fails_at", [0, 5])
def test_an_error_comes_after_what_was_found(source: Callable[..., None], fails_at: int) -> None:
    source(20)
    seen = []
    with pytest.raises(InputError, match="cursed"):
        for frame in Stream(SlowPredictor(fails_at=fails_at), "clip", drop=False):
            seen.append(frame.index)
    assert seen == list(range(fails_at))


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(Stream(SlowPredictor(), tmp_path / "nowhere.mp4"))


def test_leaving_early_ends_the_threads(source: Callable[..., None]) -> None:
    source(1000)
    before = threading.active_count()
    for frame in Stream(SlowPredictor(), "clip", drop=False):
        if frame.index == 3:
            break
    assert threading.active_count() == before


def test_a_video_as_by_the_plain_loop(
    save_model: Callable[..., Path], picture: Image, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    with video_file(clip, frames_per_second=10) as append:
        for shift in range(8):
            append(np.roll(picture, 6 * shift, axis=1))
    assert is_video(clip)
    assert not is_video(tmp_path)
    assert frames_per_second(clip) == pytest.approx(10)
    predictor = load_predictor(save_model())
    plain = list(predictor.predict_source(clip, score=0.1))
    streamed = list(Stream(predictor, clip, score=0.1))
    assert [frame.name for frame in streamed] == [name for name, _, _ in plain]
    assert [frame.seconds for frame in streamed] == pytest.approx(np.arange(8) / 10)
    for frame, (_, image, found) in zip(streamed, plain, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_array_equal(frame.detections.boxes_xyxy, found.boxes_xyxy)
        np.testing.assert_array_equal(frame.detections.labels, found.labels)


def test_a_video_that_failed_is_not_there(tmp_path: Path, picture: Image) -> None:
    with (
        pytest.raises(RuntimeError, match="no more"),
        video_file(tmp_path / "clip.mp4", frames_per_second=10) as append,
    ):
        append(picture)
        raise RuntimeError("no more")
    with video_file(tmp_path / "empty.mp4", frames_per_second=10):
        pass
    assert list(tmp_path.iterdir()) == []
