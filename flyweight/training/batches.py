"""Batches for training: the same pictures for a seed, whatever the workers and wherever resumed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from flyweight.core.errors import InputError
from flyweight.data.file_watch import FileWatch
from flyweight.training.reader_notes import ReaderNotes, lost_readers_named
from flyweight.transforms.pictures import Picture, Pictures

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset

SAMPLE_STREAM, SHUFFLE_STREAM = 1, 2
# In place of a label: a region where nothing is called background.
REGION = -2

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Transform(Protocol):
    """What `flyweight.transforms.pipeline.TrainTransform` is."""

    def __call__(
        self,
        picture: str | os.PathLike[str] | Image,
        boxes_xyxy: npt.NDArray[np.floating],
        labels: npt.NDArray[np.integer],
        /,
        *,
        size_hw: tuple[int, int],
        rng: np.random.Generator,
        others: Pictures,
    ) -> tuple[Image, Boxes, Labels]: ...


class TransformOfEpoch(Protocol):
    """Which transform an epoch (from 0) has."""

    def __call__(self, epoch: int, /) -> Transform: ...


@dataclass(frozen=True)
class ClosingEpochs:
    """One transform until the last epochs, then another: YOLOX (Ge et al. 2021, arXiv 2107.08430,
    section 2.1) closes Mosaic and MixUp for its last 15.

    Attributes:
        transform: of the epochs before `first`.
        closing: from `first` on.
        first: an epoch, from 0.
    """

    transform: Transform
    closing: Transform
    first: int

    def __call__(self, epoch: int, /) -> Transform:
        return self.transform if epoch < self.first else self.closing


class EpochOrder(Protocol):
    """The records of an epoch in the order of their turn; every epoch has as many.

    `flyweight.data.class_balance.RepeatFactorOrder` is one.
    """

    def __len__(self) -> int: ...

    def __call__(self, rng: np.random.Generator, /) -> npt.NDArray[np.int64]: ...


class Batch(NamedTuple):
    """One step's input. B images, G the most boxes that one of them has.

    Attributes:
        images: uint8 `[B, H, W, 3]` RGB.
        boxes_xyxy: float32 `[B, G, 4]`, pixels of the network's input, 0 where padded.
        labels: int64 `[B, G]`, -1 where padded.
        records: int64 `[B]`, their places in the data set, to name a bad batch.
        ignored_xyxy: float32 `[B, R, 4]`, regions where nothing is called background, 0 where
            padded; R is 0 in most batches.
    """

    images: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    records: Tensor
    ignored_xyxy: Tensor


class Draw(NamedTuple):
    """One sample to make: which record, in which epoch, and how often it has come in it before.

    Its random numbers follow from these.
    """

    epoch: int
    record: int
    repeat: int = 0


Sample = tuple[Image, Boxes, Labels, int]


class TrainSamples(Dataset[Sample | InputError]):
    """Augmented samples of a data set, addressed by `Draw`.

    Every sample has its own generator, seeded by (seed, epoch, index): no worker count, no order
    and no interruption changes what is drawn.

    Args:
        transform: of every epoch, unless `transform_of_epoch` tells it.
        transform_of_epoch: `ClosingEpochs`, for one.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        transform: Transform,
        *,
        seed: int,
        transform_of_epoch: TransformOfEpoch | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.transform_of_epoch = transform_of_epoch
        self.seed = seed
        self.notes = ReaderNotes(workers=0)
        self._files = FileWatch(len(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Sample | InputError:
        # handed over as a value: raised in a worker, it would arrive as a traceback in a string
        try:
            return self.make(draw)
        except InputError as error:
            return error

    def make(self, draw: Draw) -> Sample:
        """The sample of `draw`.

        Raises:
            InputError: an image of it cannot be read, or has changed since it was read first.
        """
        repeat = (draw.repeat,) if draw.repeat else ()
        rng = np.random.default_rng((self.seed, SAMPLE_STREAM, draw.epoch, draw.record, *repeat))
        transform = self.transform
        if self.transform_of_epoch is not None:
            transform = self.transform_of_epoch(draw.epoch)
        self.notes.begin(draw.record)
        picture = self.picture(draw.record)
        image, boxes_xyxy, labels = transform(
            picture.source,
            picture.boxes_xyxy,
            picture.labels,
            size_hw=picture.size_hw,
            rng=rng,
            others=_Others(self),
        )
        self.notes.end()
        return image, boxes_xyxy, labels, draw.record

    def picture(self, index: int) -> Picture:
        """The labelled picture of record `index`, as it was before.

        Raises:
            InputError: the file has changed since the first call, of whichever process.
        """
        record = self.dataset[index]
        self._files.check(index, record.path)
        # a crowd box stands for many objects at once: it is no target for one anchor
        labels = np.where(record.crowd, REGION, record.labels)
        return Picture(record.path, record.boxes_xyxy, labels, record.size_hw)


class _Others:
    """All pictures of the data set, for a sample that takes more than its own."""

    def __init__(self, samples: TrainSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Picture:
        self._samples.notes.add(index)
        return self._samples.picture(index)


class EpochBatches(Sampler[list[Draw]]):
    """The batches of one epoch, shuffled by (seed, epoch), from any batch on.

    The order may be given (`order`): it is drawn from (seed, epoch) alone, so every process and
    every resumed run has the same.

    With several processes, step s takes the images [s*P*B, (s+1)*P*B) of the shuffled order and
    process p its p-th part of B: together they see what one process with batch P*B would.
    An incomplete last batch is dropped when there is a complete one before it; a smaller data set
    gives one batch of what there is, and every process gets the same number of batches.

    Args:
        size: images in the data set.
        batch_size: images of a batch in each process.
        order: gives the records of an epoch, some of them perhaps several times, in place of a
            plain shuffle; its length is then that of an epoch.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        order: EpochOrder | None = None,
    ) -> None:
        self.size = size if order is None else len(order)
        self.order = order
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first_batch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch in each process."""
        return max(1, self.size // (self.batch_size * self.world_size))

    def start_at(self, epoch: int, first_batch: int = 0) -> None:
        """Make the next iteration give batches `first_batch`, ... of `epoch`."""
        self.epoch = epoch
        self.first_batch = first_batch

    def __len__(self) -> int:
        return self.batches_per_epoch - self.first_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, SHUFFLE_STREAM, self.epoch))
        order = rng.permutation(self.size) if self.order is None else self.order(rng)
        repeats = np.zeros_like(order) if self.order is None else occurrences(order)
        if self.size < self.world_size:
            order, repeats = np.resize(order, self.world_size), np.resize(repeats, self.world_size)
        whole = self.batch_size * self.world_size
        for number in range(self.first_batch, self.batches_per_epoch):
            part = slice(number * whole, (number + 1) * whole)
            records, times = order[part].tolist(), repeats[part].tolist()
            # an equal share each, so that no process waits for another's step
            share = len(records) // self.world_size
            mine = range(self.rank * share, (self.rank + 1) * share)
            yield [Draw(self.epoch, records[place], times[place]) for place in mine]


def occurrences(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`[N]`: how often each of `values [N]` has come before its place."""
    by_value = np.argsort(values, kind="stable")
    _, firsts, counts = np.unique(values[by_value], return_index=True, return_counts=True)
    before = np.empty_like(values)
    before[by_value] = np.arange(len(values)) - np.repeat(firsts, counts)
    return before


def collate(made: Sequence[Sample | InputError], *, pad_value: int = 114) -> Batch | InputError:
    """Stack samples; boxes and labels are padded to the longest list (labels -1), regions apart.

    Images of different sizes are padded on the right and below to the largest height and width.
    An error among them takes the place of the batch, see `read_batches`.
    """
    samples: list[Sample] = []
    for each in made:
        if isinstance(each, InputError):
            return each
        samples.append(each)
    objects = [labels != REGION for _, _, labels, _ in samples]
    boxes_xyxy = [boxes for _, boxes, _, _ in samples]
    labels = [each[kept] for (_, _, each, _), kept in zip(samples, objects, strict=True)]
    # one column at least: a matcher need not know tensors without boxes
    slots = max(1, *map(len, labels))
    padded = np.full((len(samples), slots), -1, np.int64)
    for row, each in zip(padded, labels, strict=True):
        row[: len(each)] = each
    return Batch(
        images=torch.from_numpy(stack([image for image, _, _, _ in samples], pad_value)),
        boxes_xyxy=_pad_boxes(boxes_xyxy, objects, slots),
        labels=torch.from_numpy(padded),
        records=torch.tensor([index for _, _, _, index in samples]),
        ignored_xyxy=_pad_boxes(
            boxes_xyxy, [~kept for kept in objects], max(int((~kept).sum()) for kept in objects)
        ),
    )


def _pad_boxes(
    boxes_xyxy: Sequence[Boxes], kept: Sequence[npt.NDArray[np.bool_]], slots: int
) -> Tensor:
    """The `kept` ones of each image's boxes `[G, 4]` as `[B, slots, 4]`, 0 where padded."""
    padded = np.zeros((len(boxes_xyxy), slots, 4), np.float32)
    for row, boxes, chosen in zip(padded, boxes_xyxy, kept, strict=True):
        row[: int(chosen.sum())] = boxes[chosen]
    return torch.from_numpy(padded)


def stack(images: Sequence[Image], pad_value: int) -> Image:
    """Images `[H, W, 3]` as one `[B, H, W, 3]` of the largest height and width."""
    shapes = {image.shape for image in images}
    if len(shapes) == 1:
        return np.stack(images)
    height, width = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    padded = np.full((len(images), height, width, 3), pad_value, np.uint8)
    for canvas, image in zip(padded, images, strict=True):
        canvas[: image.shape[0], : image.shape[1]] = image
    return padded


def default_workers(device_type: str) -> int:
    """Reading processes. On a CPU the step takes all cores and reading is a few percent of it, so
    a worker only takes cores away; a GPU must not wait for data."""
    return 0 if device_type == "cpu" else min(8, max(1, (os.cpu_count() or 2) - 1))


def make_loader(
    samples: TrainSamples, batches: EpochBatches, *, workers: int, pin: bool, pad_value: int = 114
) -> DataLoader[Sample | InputError]:
    """A DataLoader over `batches`, to be read through `read_batches`; `pad_value` is a grey."""
    samples.notes = ReaderNotes(workers)
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(collate, pad_value=pad_value),
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
    )


def read_batches(loader: Iterable[Batch | InputError]) -> Iterator[Batch]:
    """The batches of `loader`.

    Raises:
        InputError: an image cannot be read, whichever process tried, or a process died trying.
    """
    samples = getattr(loader, "dataset", None)
    handler = signal.getsignal(signal.SIGCHLD)
    with lost_readers_named(samples if isinstance(samples, TrainSamples) else None):
        for batch in loader:
            _take_back_sigchld(handler)
            if isinstance(batch, InputError):
                raise batch
            yield batch


def _take_back_sigchld(handler: Any) -> None:
    """Undo PyTorch's handler for a worker's death, which raises wherever the main process is: in
    the middle of a step, or of saving. The loader looks itself, every 5 s while it waits."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and handler is not None:
        signal.signal(signal.SIGCHLD, handler)


def _start_worker(worker: int) -> None:
    # one process a core is enough: OpenCV's own threads would fight with the others
    cv2.setNumThreads(0)
    # Ctrl-C reaches the whole process group; the main process decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    info: Any = get_worker_info()
    info.dataset.notes.bind(worker)
