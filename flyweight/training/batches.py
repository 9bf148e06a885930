"""Batches for training: the same pictures for a seed, whatever the workers and wherever resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from flyweight.data.records import DetectionDataset

SAMPLE_STREAM, SHUFFLE_STREAM = 1, 2

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Transform(Protocol):
    """What `flyweight.transforms.pipeline.TrainTransform` is."""

    def __call__(
        self,
        picture: Path | Image,
        boxes_xyxy: Boxes,
        labels: Labels,
        /,
        *,
        size_hw: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Image, Boxes, Labels]: ...


class Batch(NamedTuple):
    """One step's input. B images, G the most boxes that one of them has.

    Attributes:
        images: uint8 `[B, H, W, 3]` RGB.
        boxes_xyxy: float32 `[B, G, 4]`, pixels of the network's input, 0 where padded.
        labels: int64 `[B, G]`, -1 where padded.
        records: int64 `[B]`, their places in the data set, to name a bad batch.
    """

    images: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    records: Tensor


class Draw(NamedTuple):
    """One sample to make: which record, in which epoch. Its random numbers follow from both."""

    epoch: int
    record: int


Sample = tuple[Image, Boxes, Labels, int]


class TrainSamples(Dataset[Sample | InputError]):
    """Augmented samples of a data set, addressed by `Draw`.

    Every sample has its own generator, seeded by (seed, epoch, index): no worker count, no order
    and no interruption changes what is drawn.
    """

    def __init__(self, dataset: DetectionDataset, transform: Transform, *, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

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
            InputError: its image cannot be read.
        """
        record = self.dataset[draw.record]
        rng = np.random.default_rng((self.seed, SAMPLE_STREAM, draw.epoch, draw.record))
        # a crowd box stands for many objects at once: it is no target for one anchor
        kept = ~record.crowd
        image, boxes_xyxy, labels = self.transform(
            record.path,
            record.boxes_xyxy[kept],
            record.labels[kept],
            size_hw=record.size_hw,
            rng=rng,
        )
        return image, boxes_xyxy, labels, draw.record


class EpochBatches(Sampler[list[Draw]]):
    """The batches of one epoch, shuffled by (seed, epoch), from any batch on.

    With several processes, step s takes the images [s*P*B, (s+1)*P*B) of the shuffled order and
    process p its p-th part of B: together they see what one process with batch P*B would.
    An incomplete last batch is dropped when there is a complete one before it; a smaller data set
    gives one batch of what there is, and every process gets the same number of batches.

    Args:
        size: images in the data set.
        batch_size: images of a batch in each process.
    """

    def __init__(
        self, size: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size = size
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
        order = rng.permutation(self.size)
        if self.size < self.world_size:
            order = np.resize(order, self.world_size)
        whole = self.batch_size * self.world_size
        for number in range(self.first_batch, self.batches_per_epoch):
            part = order[number * whole : (number + 1) * whole]
            # an equal share each, so that no process waits for another's step
            share = len(part) // self.world_size
            mine = part[self.rank * share : (self.rank + 1) * share]
            yield [Draw(self.epoch, int(record)) for record in mine]


def collate(made: Sequence[Sample | InputError], *, pad_value: int = 114) -> Batch | InputError:
    """Stack samples; boxes and labels are padded to the longest list (labels -1).

    Images of different sizes are padded on the right and below to the largest height and width.
    An error among them takes the place of the batch, see `read_batches`.
    """
    samples: list[Sample] = []
    for each in made:
        if isinstance(each, InputError):
            return each
        samples.append(each)
    longest = max((len(labels) for _, _, labels, _ in samples), default=0)
    # one column at least: a matcher need not know tensors without boxes
    boxes_xyxy = np.zeros((len(samples), max(longest, 1), 4), np.float32)
    padded = np.full((len(samples), max(longest, 1)), -1, np.int64)
    for row, (_, boxes, labels, _) in enumerate(samples):
        boxes_xyxy[row, : len(labels)] = boxes
        padded[row, : len(labels)] = labels
    return Batch(
        images=torch.from_numpy(stack([image for image, _, _, _ in samples], pad_value)),
        boxes_xyxy=torch.from_numpy(boxes_xyxy),
        labels=torch.from_numpy(padded),
        records=torch.tensor([index for _, _, _, index in samples]),
    )


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
        InputError: an image cannot be read, whichever process tried.
    """
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def _start_worker(worker: int) -> None:
    # one process a core is enough: OpenCV's own threads would fight with the others
    cv2.setNumThreads(0)
    # Ctrl-C reaches the whole process group; the main process decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
