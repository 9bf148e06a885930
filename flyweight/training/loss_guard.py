"""A loss that is no number ends a run, and the batch that gave it is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from flyweight.core.errors import CheckError, InputError
from flyweight.core.image import write_image
from flyweight.training.bad_batch import BadBatch, contact_sheet, save_bad_batch
from flyweight.training.batches import Batch, EpochBatches, TrainSamples, collate
from flyweight.training.epoch_losses import StepLoss
from flyweight.training.processes import Processes
from flyweight.training.run_folder import RunFolder


class LossGuard:
    """Looks at the losses of a run's steps, in all its processes at once.

    No batch is held in case it turns out bad: each follows from (seed, epoch, records), so that
    even one of many steps ago, or of another process, is made again to the last bit.

    Args:
        batches: this process's.
        folder: where the first process leaves the bad batch.
        pad_value: what smaller images of a batch are padded with.
    """

    def __init__(
        self,
        samples: TrainSamples,
        batches: EpochBatches,
        processes: Processes,
        folder: RunFolder,
        *,
        pad_value: int,
    ) -> None:
        self._samples = samples
        self._batches = batches
        self._processes = processes
        self._folder = folder
        self._pad_value = pad_value

    def check(self, losses: Sequence[StepLoss], *, epoch: int, first_step: int) -> None:
        """See that the losses of the steps `first_step`, ... (from 0) are numbers.

        Raises:
            CheckError: one is not, in the first process; the saved state is left as it was.
            ElsewhereError: in the others.
        """
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss.mean)), None)
        if bad is None:
            return
        loss = losses[bad]
        # the mean is bad in all processes, the batch in one or some
        rank = self._processes.first_with(not math.isfinite(loss.own)) or 0
        number = first_step + bad
        self._processes.together(lambda: self._refuse(loss.mean, epoch, number, rank))

    def _refuse(self, loss: float, epoch: int, number: int, rank: int) -> None:
        if not self._processes.first:
            return
        batch = self.make_again(epoch, number, rank=rank)
        dataset = self._samples.dataset
        bad = BadBatch(
            batch,
            epoch=epoch + 1,
            step=number + 1,
            process=rank,
            loss=loss,
            file_names=tuple(dataset[place].path.name for place in batch.records.tolist()),
            class_names=dataset.class_names,
        )
        save_bad_batch(bad, self._folder.bad_batch)
        write_image(self._folder.bad_pictures, contact_sheet(bad))
        raise CheckError(
            f"the loss is {loss} (epoch {bad.epoch}, step {bad.step} of "
            f"{self._batches.batches_per_epoch}, images {', '.join(bad.file_names)}); look at "
            f"{self._folder.bad_pictures}, whose tensors are in {self._folder.bad_batch.name}; "
            "then lower the learning rate or lengthen the warm-up, and check the boxes with: "
            "flyweight data check"
        )

    def make_again(self, epoch: int, number: int, *, rank: int) -> Batch:
        """The batch `number` of `epoch` (both from 0) of process `rank`.

        Raises:
            InputError: an image cannot be read any more.
        """
        batches = copy.copy(self._batches)
        batches.rank = rank
        batches.start_at(epoch, number)
        made = [self._samples[draw] for draw in next(iter(batches))]
        batch = collate(made, pad_value=self._pad_value)
        if isinstance(batch, InputError):
            raise batch
        return batch
