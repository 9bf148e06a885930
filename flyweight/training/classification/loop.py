"""The loop that trains a classifier: epochs of steps, evaluation of the averaged weights, files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from flyweight.core.errors import CheckError, InputError
from flyweight.data.records import DetectionDataset
from flyweight.training.batches import (
    Batch,
    Draw,
    EpochBatches,
    TrainSamples,
    make_loader,
    read_batches,
)
from flyweight.training.classification.balanced_order import BalancedOrder
from flyweight.training.classification.crop import training_crop, whole_crop
from flyweight.training.classification.image_folder import region_labels
from flyweight.training.classification.metrics import (
    ClassificationResult,
    classification_result,
    confusion_matrix,
)
from flyweight.training.classification.network import ImageClassifier, save_classifier
from flyweight.training.classification.recipe import ClassificationRecipe
from flyweight.training.classification.step import ClassificationStep
from flyweight.training.devices import make_fabric, reading_processes
from flyweight.training.interrupt import (
    StopError,
    StopRequest,
    TrainingInterrupted,
    stop_on_signals,
)
from flyweight.training.lineage import data_lineage
from flyweight.training.progress import Display, make_display
from flyweight.training.resume import (
    ResumeState,
    check_same_run,
    describe_data,
    load_state,
    save_state,
)
from flyweight.training.run_folder import RunFolder
from flyweight.training.tensorboard import EventWriter

FIGURES = ("top1", "balanced_accuracy")


@dataclass(frozen=True)
class ClassificationOutcome:
    """What a run left.

    Attributes:
        best_checkpoint: the averaged weights of the best epoch.
        metrics: "top1" and "balanced_accuracy" of `best_checkpoint` on the validation images.
        best_epoch: the epoch that `best_checkpoint` comes from.
        images_per_second: training speed without evaluation, of this sitting.
        epochs: epochs trained.
    """

    best_checkpoint: Path
    metrics: dict[str, float]
    best_epoch: int
    images_per_second: float
    epochs: int


def train_classifier(
    network: ImageClassifier,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    recipe: ClassificationRecipe,
    folder: RunFolder,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    resume_command: str = "the same command with --resume",
) -> ClassificationOutcome:
    """Train `network` and keep the weights of the highest balanced accuracy on `val_set`.

    Balanced, because objects of a detection data set are rarely as many of one class as of
    another: top-1 would choose for the largest.

    Args:
        network: is changed in place: it ends with the raw weights of the last step.
        train_set, val_set: records of one box, the labelled region; classes as the network's.
        resume: go on with the run in `folder`.
        overwrite: start anew although there is a run in `folder`.
        progress: False shows nothing; None a bar on a terminal and lines elsewhere.

    Raises:
        InputError: an image, the device or the folder cannot be used.
        CheckError: the loss is no longer a finite number.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    run = Run(network, train_set, val_set, recipe, folder)
    if resume:
        run.load()
    else:
        run.start(overwrite=overwrite)
    with stop_on_signals() as stop, make_display(progress) as display:
        try:
            return run.to_the_end(stop, display)
        except StopError:
            run.save_state()
            raise TrainingInterrupted(
                folder.path, epoch=run.epoch + 1, resume_command=resume_command
            ) from None
        finally:
            run.events.close()


class Run:
    """One training run: its parts, and its place in the epochs."""

    def __init__(
        self,
        network: ImageClassifier,
        train_set: DetectionDataset,
        val_set: DetectionDataset,
        recipe: ClassificationRecipe,
        folder: RunFolder,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.network = network
        self.train_set = train_set
        self.val_set = val_set
        self.data = describe_data(train_set)
        self.fabric = fabric = make_fabric(recipe.optimisation)
        fabric.launch()
        if fabric.world_size > 1:
            raise InputError(
                f"a classifier is trained by one process, not by {fabric.world_size}",
                fix="start it without torchrun",
            )
        order = BalancedOrder(region_labels(train_set.records)) if recipe.balanced else None
        self.batches = EpochBatches(
            len(train_set), batch_size=recipe.batch_size, seed=recipe.seed, order=order
        )
        self.steps_per_epoch = self.batches.batches_per_epoch
        self.step = ClassificationStep(
            fabric, network, recipe, steps_per_epoch=self.steps_per_epoch
        )
        self.loader, self.val_loader = self._loaders()
        # reading a loss makes a GPU wait; on a CPU it costs nothing
        self.look_every = 1 if fabric.device.type == "cpu" else recipe.log_every
        self.events = EventWriter(None)
        self.epoch = 0
        self.batches_done = 0
        self.loss_sum = torch.zeros((), device=fabric.device)
        self.best: float | None = None
        self.best_epoch = 0
        self.last_loss = math.nan
        self.images_seen = 0
        self.seconds = 0.0
        self.speed = 0.0
        self.last_saved = time.monotonic()

    def _loaders(self) -> tuple[Iterable[Any], Iterable[Any]]:
        """Of the augmented training regions, and of the validation regions as they are."""
        recipe, preprocessing = self.recipe, self.network.preprocessing
        transform = training_crop(preprocessing, min_area=recipe.min_area)
        kind = self.fabric.device.type
        loaders = [
            make_loader(
                TrainSamples(regions, each, seed=recipe.seed),
                batches,
                workers=reading_processes(recipe.optimisation, kind),
                pin=kind != "cpu",
            )
            for regions, each, batches in (
                (self.train_set, transform, self.batches),
                (self.val_set, whole_crop(preprocessing), self._validation_batches()),
            )
        ]
        ready = self.fabric.setup_dataloaders(*loaders, use_distributed_sampler=False)
        return cast(tuple[Iterable[Any], Iterable[Any]], tuple(ready))

    def _validation_batches(self) -> EpochBatches:
        """All validation regions in their order, the last batch as large as it comes."""
        draws = [Draw(0, index) for index in range(len(self.val_set))]
        size = self.recipe.batch_size
        batches = [draws[start : start + size] for start in range(0, len(draws), size)]
        # all that the loader asks of a sampler is to be gone through
        return cast(EpochBatches, batches)

    # --- beginning, saving, going on ---

    def start(self, *, overwrite: bool) -> None:
        """Make the folder of a new run and write down what it is."""
        self.folder.start(overwrite=overwrite)
        self.folder.write_config(
            {
                "recipe": self.recipe.to_dict(),
                "model": json.loads(self.network.manifest().to_json()),
                "data": {
                    "root": str(self.train_set.root),
                    "train": data_lineage(self.train_set),
                    "val": data_lineage(self.val_set),
                },
            }
        )
        self.events = EventWriter(self.folder.path)
        # so that a run killed in its first epoch can be resumed like any other
        self.save_state()

    def load(self) -> None:
        """Take up the run that is in the folder."""
        state = load_state(self.folder.resume)
        check_same_run(state, self.recipe.optimisation, self.data, self.folder.resume)
        self.step.load_state_dict(state.step)
        self.epoch, self.batches_done = state.epoch, state.batches_done
        self.loss_sum = state.loss_sums["class"].to(self.fabric.device)
        self.best, self.best_epoch = state.best_ap, state.best_epoch
        self.folder.keep_metrics_before(self.epoch + 1)
        self.events = EventWriter(self.folder.path, first_step=self.epoch + 1)

    def save_state(self) -> None:
        """Write `resume.pt`, in the form of the detectors' runs."""
        self.last_saved = time.monotonic()
        state = ResumeState(
            recipe=self.recipe.optimisation.to_dict(),
            data=self.data,
            epoch=self.epoch,
            batches_done=self.batches_done,
            step=self.step.state_dict(),
            loss_sums={"class": self.loss_sum},
            best_ap=self.best,
            best_epoch=self.best_epoch,
        )
        save_state(state, self.folder.resume)

    # --- the loop ---

    def to_the_end(self, stop: StopRequest, display: Display) -> ClassificationOutcome:
        """Train until the last epoch."""
        display.start(
            epochs=self.recipe.epochs,
            steps=self.recipe.epochs * self.steps_per_epoch,
            done=self.epoch * self.steps_per_epoch + self.batches_done,
        )
        while self.epoch < self.recipe.epochs:
            self._train_epoch(stop, display)
            self._close_epoch(self._evaluate(stop, display), display)
        rows = self.folder.read_metrics()
        best = next((row for row in rows if row["epoch"] == self.best_epoch), {})
        return ClassificationOutcome(
            best_checkpoint=self.folder.best,
            metrics={name: best.get(name, math.nan) for name in FIGURES},
            best_epoch=self.best_epoch,
            images_per_second=round(self.images_seen / max(self.seconds, 1e-9), 2),
            epochs=self.epoch,
        )

    def _train_epoch(self, stop: StopRequest, display: Display) -> None:
        """The rest of the epoch's steps."""
        self.step.training_mode()
        self.batches.start_at(self.epoch, self.batches_done)
        started = time.perf_counter()
        first_image = self.images_seen
        for batch in read_batches(self.loader):
            lr = self.step.lr
            loss = self.step(batch, self.epoch * self.steps_per_epoch + self.batches_done)
            self.loss_sum = self.loss_sum + loss
            self.batches_done += 1
            self.images_seen += len(batch.images)
            if self.batches_done % self.look_every == 0:
                self.last_loss = self._finite(loss)
            spent = time.perf_counter() - started
            display.step(
                epoch=self.epoch + 1,
                loss=self.last_loss,
                lr=lr,
                images_per_second=(self.images_seen - first_image) / spent,
            )
            if stop.made:
                raise StopError
            if time.monotonic() - self.last_saved > self.recipe.save_minutes * 60:
                self.save_state()
        self._finite(self.loss_sum)
        spent = time.perf_counter() - started
        self.seconds += spent
        self.speed = (self.images_seen - first_image) / spent

    def _finite(self, loss: Tensor) -> float:
        """The loss as a number.

        Raises:
            CheckError: it is infinite or not a number; the saved state is left as it was.
        """
        value = float(loss)
        if math.isfinite(value):
            return value
        raise CheckError(
            f"the loss is {value} (epoch {self.epoch + 1}, step {self.batches_done} of "
            f"{self.steps_per_epoch}); lower the learning rate"
        )

    # --- the end of an epoch ---

    @torch.inference_mode()
    def _evaluate(self, stop: StopRequest, display: Display) -> ClassificationResult:
        """Figures of the averaged weights on the validation regions."""
        classes = len(self.network.class_names)
        confusion = np.zeros((classes, classes), dtype=np.int64)
        for batch in read_batches(self.val_loader):
            confusion += self._confusion(batch)
            display.evaluating(int(confusion.sum()), len(self.val_set))
            if stop.made:
                raise StopError
        return classification_result(confusion)

    def _confusion(self, batch: Batch) -> np.ndarray:
        found = self.step.ema.model(batch.images).argmax(dim=1)
        return confusion_matrix(
            batch.labels[:, 0].cpu().numpy(), found.cpu().numpy(), len(self.network.class_names)
        )

    def averaged(self) -> ImageClassifier:
        """The network with averaged weights, and the training data in its lineage."""
        network = cast(ImageClassifier, self.step.ema.model)
        network.lineage = self.network.lineage | {"data": data_lineage(self.train_set)}
        return network

    def _close_epoch(self, result: ClassificationResult, display: Display) -> None:
        """Write the epoch's checkpoints and figures, and step to the next."""
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "loss": float(self.loss_sum) / self.batches_done,
            "lr": self.step.lr,
            "images_per_second": round(self.speed, 2),
            **asdict(result),
        }
        # of equals the later: it has learnt longer, and few images make many equals
        better = self.best is None or result.balanced_accuracy >= self.best
        self.epoch, self.batches_done = self.epoch + 1, 0
        self.loss_sum = torch.zeros_like(self.loss_sum)
        if better:
            self.best, self.best_epoch = result.balanced_accuracy, self.epoch
            save_classifier(self.averaged(), self.folder.best)
        save_classifier(self.averaged(), self.folder.last)
        self.folder.append_metrics(row)
        self.events.write(row, step=self.epoch)
        self.save_state()
        display.note(describe_epoch(row, self.recipe.epochs))


def describe_epoch(row: Mapping[str, Any], epochs: int) -> str:
    """One line about an epoch."""
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  lr {row['lr']:.1e}"
        f"  {row['images_per_second']:.1f} images/s"
        f"  top-1 {row['top1']:.3f}  balanced {row['balanced_accuracy']:.3f}"
    )
