from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.class_balance import RepeatFactorOrder, repeat_factors
from flyweight.data.records import DetectionDataset
from flyweight.training.batches import (
    Batch,
    ClosingEpochs,
    Draw,
    EpochBatches,
    TrainSamples,
    collate,
    make_loader,
    read_batches,
)
from flyweight.transforms.presets import build_transform


def loaded(
    dataset: DetectionDataset, *, workers: int = 0, seed: int = 3, epoch: int = 0, first: int = 0
) -> list[Batch]:
    transform = build_transform("ssd", Preprocessing(size_hw=(48, 64)))
    batches = EpochBatches(len(dataset), batch_size=4, seed=seed)
    batches.start_at(epoch, first)
    samples = TrainSamples(dataset, transform, seed=seed)
    loader = make_loader(samples, batches, workers=workers, pin=False)
    return list(read_batches(cast(Iterable[Any], loader)))


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a, b)
        for x, y in zip(ours, theirs, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_shapes_and_padding(train_set: DetectionDataset) -> None:
    for batch in loaded(train_set):
        assert batch.images.shape == (4, 48, 64, 3)
        assert batch.images.dtype == torch.uint8
        padded = batch.labels < 0
        assert bool((batch.boxes_xyxy[padded] == 0).all())
        sides = batch.boxes_xyxy[..., 2:] - batch.boxes_xyxy[..., :2]
        assert bool((sides[~padded] > 0).all())
        assert bool((batch.boxes_xyxy[..., 2] <= 64).all())


def test_workers_change_nothing(train_set: DetectionDataset) -> None:
    assert same(loaded(train_set, workers=2), loaded(train_set))


def test_seed_and_epoch_change_everything(train_set: DetectionDataset) -> None:
    first = loaded(train_set)
    assert same(first, loaded(train_set))
    assert not same(first, loaded(train_set, seed=4))
    assert not same(first, loaded(train_set, epoch=1))


def test_an_epoch_taken_up_in_the_middle(train_set: DetectionDataset) -> None:
    assert same(loaded(train_set, epoch=2)[2:], loaded(train_set, epoch=2, first=2))


def test_a_sample_does_not_depend_on_its_batch(train_set: DetectionDataset) -> None:
    transform = build_transform("ssd", Preprocessing(size_hw=(48, 48)))
    samples = TrainSamples(train_set, transform, seed=5)
    image, boxes, labels, _ = samples.make(Draw(1, 7))
    samples.make(Draw(1, 3))
    again, boxes_again, labels_again, _ = samples.make(Draw(1, 7))
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(boxes, boxes_again)
    np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(image, samples.make(Draw(2, 7))[0])


@pytest.mark.parametrize(
    ("size", "batch_size", "sizes"),
    [(14, 4, [4, 4, 4]), (8, 4, [4, 4]), (3, 4, [3]), (4, 4, [4]), (5, 4, [4])],
)
def test_the_last_batch_goes_only_if_there_is_another(
    size: int, batch_size: int, sizes: list[int]
) -> None:
    batches = EpochBatches(size, batch_size=batch_size, seed=0)
    drawn = [[draw.record for draw in batch] for batch in batches]
    assert [len(batch) for batch in drawn] == sizes
    assert len(batches) == len(sizes)
    flat = [record for batch in drawn for record in batch]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("size", [32, 37])
def test_processes_share_what_one_with_the_whole_batch_takes(size: int) -> None:
    alone = EpochBatches(size, batch_size=8, seed=1)
    pair = [EpochBatches(size, batch_size=4, seed=1, rank=rank, world_size=2) for rank in range(2)]
    together = [first + second for first, second in zip(*pair, strict=True)]
    assert together == list(alone)


def test_fewer_images_than_a_batch_are_shared_evenly() -> None:
    shares = [
        list(EpochBatches(5, batch_size=4, seed=1, rank=rank, world_size=2)) for rank in range(2)
    ]
    assert [[len(batch) for batch in share] for share in shares] == [[2], [2]]
    tiny = [
        list(EpochBatches(1, batch_size=4, seed=1, rank=rank, world_size=2)) for rank in range(2)
    ]
    assert tiny[0] == tiny[1] == [[Draw(0, 0)]]


def test_crowds_are_regions_to_ignore(train_set: DetectionDataset) -> None:
    record = train_set[0]
    crowded = replace(
        record,
        boxes_xyxy=np.array([[0, 0, 20, 20], [5, 5, 30, 30]], np.float32),
        labels=np.array([0, 1]),
        crowd=np.array([True, False]),
        difficult=np.zeros(2, bool),
    )
    transform = build_transform("none", Preprocessing(size_hw=record.size_hw))
    dataset = replace(train_set, records=(crowded,))
    batch = collate([TrainSamples(dataset, transform, seed=0).make(Draw(0, 0))])
    assert isinstance(batch, Batch)
    assert batch.labels.tolist() == [[1]]
    np.testing.assert_allclose(batch.boxes_xyxy, [[[5, 5, 30, 30]]])
    np.testing.assert_allclose(batch.ignored_xyxy, [[[0, 0, 20, 20]]])


def test_a_batch_without_objects_has_a_slot() -> None:
    empty = (np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0)
    batch = collate([empty, empty])
    assert isinstance(batch, Batch)
    assert batch.labels.tolist() == [[-1], [-1]]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line(
    train_set: DetectionDataset, tmp_path: Path, workers: int
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff half a picture")
    records = (*train_set.records[:3], replace(train_set[3], path=broken))
    with pytest.raises(InputError, match=r"broken\.jpg") as caught:
        loaded(replace(train_set, records=records), workers=workers)
    assert "Traceback" not in str(caught.value)
    assert caught.value.where == str(broken)


def test_images_of_several_sizes_are_padded_right_and_below() -> None:
    boxes, labels = np.array([[1, 2, 3, 4]], np.float32), np.zeros(1, np.int64)
    images = [np.full((*size_hw, 3), 7, np.uint8) for size_hw in ((32, 64), (96, 32))]
    batch = collate([(image, boxes, labels, 0) for image in images], pad_value=9)
    assert isinstance(batch, Batch)
    assert batch.images.shape == (2, 96, 64, 3)
    for canvas, image in zip(batch.images.numpy(), images, strict=True):
        height, width = image.shape[:2]
        assert (canvas[:height, :width] == 7).all()
        assert canvas.sum() == image.sum() + 9 * (canvas.size - image.size)


def samples_of(dataset: DetectionDataset, name: str, **options: Any) -> TrainSamples:
    return TrainSamples(
        dataset, build_transform(name, Preprocessing(size_hw=(48, 64))), seed=3, **options
    )


@pytest.mark.parametrize("name", ["yolov4", "yolox", "tiny_data"])
def test_workers_change_nothing_in_samples_of_several_pictures(
    train_set: DetectionDataset, name: str
) -> None:
    def read(workers: int) -> list[Batch]:
        batches = EpochBatches(len(train_set), batch_size=4, seed=3)
        loader = make_loader(samples_of(train_set, name), batches, workers=workers, pin=False)
        return list(read_batches(cast(Iterable[Any], loader)))

    assert same(read(2), read(0))


def test_the_last_epochs_have_a_transform_of_their_own(train_set: DetectionDataset) -> None:
    strong = build_transform("yolov4", Preprocessing(size_hw=(48, 64)))
    closing = ClosingEpochs(strong, strong.alone(), first=5)
    samples = samples_of(train_set, "none", transform_of_epoch=closing)
    for epoch, expected in ((4, strong), (5, strong.alone()), (9, strong.alone())):
        image = samples.make(Draw(epoch, 2))[0]
        plain = TrainSamples(train_set, expected, seed=3).make(Draw(epoch, 2))[0]
        np.testing.assert_array_equal(image, plain)
    assert not np.array_equal(
        samples.make(Draw(5, 2))[0], TrainSamples(train_set, strong, seed=3).make(Draw(5, 2))[0]
    )


def test_a_record_that_comes_twice_is_augmented_twice(train_set: DetectionDataset) -> None:
    samples = samples_of(train_set, "ssd")
    first, second = samples.make(Draw(0, 1)), samples.make(Draw(0, 1, repeat=1))
    assert not np.array_equal(first[0], second[0])
    np.testing.assert_array_equal(second[0], samples.make(Draw(0, 1, 1))[0])


class Twice:
    """An epoch in which every record comes twice."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return 2 * self.size

    def __call__(self, rng: np.random.Generator, /) -> np.ndarray:
        return rng.permutation(np.repeat(np.arange(self.size), 2))


def test_an_order_of_ones_own_has_its_length_in_every_process() -> None:
    alone = EpochBatches(7, batch_size=4, seed=1, order=Twice(7))
    assert len(alone) == 3
    drawn = [draw for batch in alone for draw in batch]
    assert len(set(drawn)) == 12
    assert {draw.repeat for draw in drawn} == {0, 1}
    for draw in drawn:
        # The second turn comes after the first.
        if draw.repeat:
            assert drawn.index(draw._replace(repeat=0)) < drawn.index(draw)
    pair = [
        EpochBatches(7, batch_size=2, seed=1, rank=rank, world_size=2, order=Twice(7))
        for rank in range(2)
    ]
    assert [first + second for first, second in zip(*pair, strict=True)] == list(alone)
    whole = list(alone)
    alone.start_at(0, 2)
    assert list(alone) == whole[2:]
    alone.start_at(1)
    assert list(alone) != whole


def test_repeat_factors_make_an_order(train_set: DetectionDataset) -> None:
    order = RepeatFactorOrder(repeat_factors(train_set, 1.0))
    batches = EpochBatches(len(train_set), batch_size=4, seed=0, order=order)
    lengths = set()
    for epoch in range(5):
        batches.start_at(epoch)
        lengths.add(len(list(batches)))
    assert lengths == {len(order) // 4}
    assert len(order) > len(train_set)


def test_batches_go_through_shared_memory() -> None:
    """What a worker sends of a batch is handles: a few kilobytes, whatever its pixels take."""
    image = np.zeros((300, 300, 3), np.uint8)
    batch = collate([(image, np.zeros((2, 4), np.float32), np.zeros(2, np.int64), 0)] * 4)
    assert isinstance(batch, Batch)
    assert len(ForkingPickler.dumps(batch)) < 4096


def test_a_picture_that_changes_during_the_run(train_set: DetectionDataset, tmp_path: Path) -> None:
    path = tmp_path / "changing.png"
    shutil.copyfile(train_set[0].path, path)
    dataset = replace(train_set, records=(replace(train_set[0], path=path),))
    samples = samples_of(dataset, "ssd")
    samples.make(Draw(0, 0))
    shutil.copyfile(train_set[1].path, path)
    with pytest.raises(InputError, match="changed during the run") as caught:
        samples.make(Draw(1, 0))
    assert caught.value.where == str(path)


class DiesOn:
    """A transform that takes its process down at one picture, as a decoder's crash would."""

    def __init__(self, path: Path, how: str) -> None:
        self.path, self.how = path, how

    def __call__(self, picture: Any, *_: Any, **__: Any) -> Any:
        if picture == self.path:
            if self.how == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_dead_reader_names_its_picture(
    train_set: DetectionDataset, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    path = train_set[6].path
    samples = TrainSamples(train_set, DiesOn(path, how), seed=0)
    batches = EpochBatches(len(train_set), batch_size=2, seed=0)
    loader = make_loader(samples, batches, workers=1, pin=False)
    with pytest.raises(InputError, match="process that reads pictures has died") as caught:
        for _ in read_batches(cast(Iterable[Any], loader)):
            # The process dies while a step is made, which goes on in peace.
            time.sleep(0.1)
    assert caught.value.where == str(path)
