"""Two detectors on the same images: the difference, its interval, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.data.records import DetectionDataset, Record
from flyweight.evaluation import average_precision, compare, compare_detections, paired

Label = Callable[..., DetectionDataset]
Find = Callable[..., Detections]
Again = Callable[..., list[Detections]]
Scenes = Callable[..., tuple[DetectionDataset, list[Detections]]]


def test_a_model_differs_from_itself_by_nothing(random_scenes: Scenes) -> None:
    data, detections = random_scenes(1)
    comparison = compare_detections(data, [detections, detections], resamples=200)
    (difference,) = comparison.differences
    for interval in difference.to_dict().values():
        assert interval == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not difference.more_than_chance


def test_by_hand(labels_of: Label, finds: Find) -> None:
    """The first finds both images' objects, the second only that of the first image.

    A draw of two has both images half of the time, or one of them twice. The second's recall is
    then 1/2 (51 of the 101 recall points), 1 or 0, so the difference is -50/101, 0 or -1.
    """
    data = labels_of([[(0, 0, 50, 50, 0)], [(0, 0, 50, 50, 0)]], 1)
    hit = finds((0, 0, 50, 50, 0, 0.9))
    comparison = compare_detections(data, [[hit, hit], [hit, finds()]], resamples=400)
    (difference,) = comparison.differences
    for interval in (difference.AP, difference.AP50, difference.AP75):
        assert interval.value == pytest.approx(-50 / 101)
        assert (interval.low, interval.high) == pytest.approx((-1, 0))
    assert not difference.more_than_chance


def test_the_interval_is_that_of_evaluating_every_resample(
    random_scenes: Scenes, find_again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, first = random_scenes(2, images=12)
    second = find_again(data, seed=5)
    monkeypatch.setattr(paired, "CHUNK", 7)  # the draws do not depend on how they are cut
    comparison = compare_detections(data, [first, second], resamples=30, seed=9)
    draws = np.random.default_rng(9).multinomial(12, np.full(12, 1 / 12), size=30)
    differences = []
    for draw in draws:
        places = np.repeat(np.arange(12), draw)
        drawn = data.subset(places)
        one, other = (
            average_precision(drawn, [detections[place] for place in places])
            for detections in (first, second)
        )
        differences.append([getattr(other, name) - getattr(one, name) for name in paired.FIGURES])
    low, high = np.percentile(differences, [2.5, 97.5], axis=0)
    for n, interval in enumerate(comparison.differences[0].to_dict().values()):
        assert (interval["low"], interval["high"]) == pytest.approx((low[n], high[n]), abs=1e-9)


def test_two_of_equal_quality_are_not_told_apart(random_scenes: Scenes, find_again: Again) -> None:
    """The interval leaves out zero for one pair in twenty; three of twelve are one in fifty."""
    apart = 0
    for seed in range(12):
        data, first = random_scenes(seed, images=40)
        found = [first, find_again(data, seed=50 + seed)]
        (difference,) = compare_detections(data, found, resamples=300).differences
        assert difference.AP.low < difference.AP.value < difference.AP.high
        apart += difference.more_than_chance
    assert apart <= 2


def test_one_that_loses_most_is_worse_by_more_than_chance(
    random_scenes: Scenes, find_again: Again
) -> None:
    data, first = random_scenes(3, images=40)
    found = [first, find_again(data, seed=7, share=0.25), find_again(data, seed=8)]
    comparison = compare_detections(data, found, resamples=300)
    worse, equal = comparison.differences
    assert worse.more_than_chance
    assert worse.AP.high < 0
    assert not equal.more_than_chance
    back = compare_detections(data, found[1::-1], resamples=300)
    assert back.differences[0].AP.low == pytest.approx(-worse.AP.high)
    names = ("old", "new", "third")
    assert "new is worse than old by" in comparison.verdict(names)
    assert "new is better than old by" in back.verdict(("old", "new"))
    assert "between third and old may be chance" in comparison.verdict(names, 2)
    assert "few" not in comparison.verdict(names)


def test_few_images_are_named(labels_of: Label, finds: Find) -> None:
    data = labels_of([[(0, 0, 50, 50, 0)]] * 3)
    hit = finds((0, 0, 50, 50, 0, 0.9))
    comparison = compare_detections(data, [[finds()] * 3, [hit] * 3], resamples=100)
    assert "3 images are few" in comparison.verdict(("a", "b"))


def test_the_same_seed_gives_the_same_interval(random_scenes: Scenes, find_again: Again) -> None:
    data, first = random_scenes(4)
    found = [first, find_again(data, seed=1)]
    one, same, other = (
        compare_detections(data, found, resamples=150, seed=seed).differences[0]
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one.AP.low != other.AP.low


def test_without_objects_there_is_nothing_to_compare(labels_of: Label, finds: Find) -> None:
    with pytest.raises(InputError, match="no object is labelled"):
        compare_detections(labels_of([[]]), [[finds()], [finds()]])


def test_one_model_is_not_compared(labels_of: Label, finds: Find) -> None:
    with pytest.raises(ValueError, match="needs two"):
        compare_detections(labels_of([[]]), [[finds()]])


@dataclass
class FixedBox:
    """Finds one box in every image."""

    box: tuple[int, int, int, int]
    class_names: tuple[str, ...] = ("thing",)

    def predict(self, image: object, *, score: float = 0.3) -> Detections:
        raise NotImplementedError

    def predict_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        box = np.array([self.box], np.float32)
        return [Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64)) for _ in images]


def test_predictors_are_run_on_every_image(tmp_path: Path) -> None:
    records = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        write_image(path, np.zeros((64, 64, 3), np.uint8))
        none = np.zeros(1, bool)
        box = np.array([[8, 8, 40, 40]], np.float32)
        records.append(Record(number, path, (64, 64), box, np.zeros(1, np.int64), none, none))
    data = DetectionDataset(tuple(records), ("thing",), tmp_path, "test", "coco")
    done: list[int] = []
    comparison = compare(
        [FixedBox((8, 8, 40, 40)), FixedBox((48, 48, 60, 60))],
        data,
        batch_size=2,
        resamples=100,
        progress=lambda count, total: done.append(count),
    )
    assert [result.AP for result in comparison.results] == pytest.approx([1, 0])
    assert comparison.differences[0].AP.high == pytest.approx(-1)
    assert done == [2, 3, 2, 3]
