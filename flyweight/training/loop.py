"""The training loop: epochs of steps, evaluation of the averaged weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from flyweight.core.errors import CheckError, InputError
from flyweight.evaluation.evaluate import evaluate
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.training.batches import (
    Batch,
    EpochBatches,
    TrainSamples,
    Transform,
    default_workers,
    make_loader,
    read_batches,
)
from flyweight.training.devices import make_fabric
from flyweight.training.interrupt import StopRequest, TrainingInterrupted, stop_on_signals
from flyweight.training.lineage import data_lineage, run_config
from flyweight.training.progress import Display, make_display
from flyweight.training.recipe import Recipe
from flyweight.training.resume import (
    ResumeState,
    check_same_run,
    describe_data,
    load_state,
    save_state,
)
from flyweight.training.run_folder import RunFolder
from flyweight.training.run_report import report_run
from flyweight.training.step import TrainingStep
from flyweight.training.tensorboard import EventWriter
from flyweight.transforms.presets import build_transform

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset
    from flyweight.evaluation.coco_ap import EvaluationResult


@dataclass(frozen=True)
class TrainingResult:
    """What a run left.

    Attributes:
        run_dir: its folder.
        best_checkpoint: the averaged weights of the best evaluated epoch.
        metrics: "AP", "AP50", "AP75" of `best_checkpoint` on the validation images, and "epoch".
        images_per_second: training speed without evaluation.
        epochs: epochs trained.
    """

    run_dir: Path
    best_checkpoint: Path
    metrics: dict[str, Any]
    images_per_second: float
    epochs: int


def train(
    detector: Detector,
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    recipe: Recipe,
    run_dir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    resume_command: str | None = None,
) -> TrainingResult:
    """Train `detector` on `train_set` and keep the weights that are best on `val_set`.

    `detector` is changed in place: it ends with the raw weights of the last step. The averaged
    weights, which are the better ones, are in the result's checkpoint.

    Args:
        val_set: None (or empty) trains without evaluation; the last weights are then the best.
        resume: go on with the run in `run_dir`.
        overwrite: start anew although there is a run in `run_dir`.
        progress: False shows nothing; None a bar on a terminal and lines elsewhere.
        resume_command: what to tell the user when the run is interrupted.

    Raises:
        InputError: the data, the recipe, the device or the folder cannot be used.
        CheckError: the loss is no longer a finite number.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    if not len(train_set):
        raise InputError("there are no images to train on", where=train_set.root)
    train_set = _with_classes(train_set, detector.class_names)
    val_set = _with_classes(val_set, detector.class_names) if val_set else None
    run = Run(detector, train_set, val_set, recipe, RunFolder(Path(run_dir)))
    if resume:
        run.load()
    else:
        run.start(overwrite=overwrite)
    command = resume_command or "the same command with --resume"
    with stop_on_signals() as stop, run.display(progress) as display:
        try:
            return run.to_the_end(stop, display)
        except _StopError:
            run.save_state()
            raise TrainingInterrupted(
                run.folder.path, epoch=run.epoch + 1, resume_command=command
            ) from None
        finally:
            run.events.close()


def _with_classes(dataset: DetectionDataset, names: tuple[str, ...]) -> DetectionDataset:
    return dataset if dataset.class_names == names else dataset.remap(names)


class _StopError(Exception):
    """The loop has come to a place where it can be left."""


class Run:
    """One training run: its parts, and its place in the epochs."""

    def __init__(
        self,
        detector: Detector,
        train_set: DetectionDataset,
        val_set: DetectionDataset | None,
        recipe: Recipe,
        folder: RunFolder,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.train_set = train_set
        self.data = describe_data(train_set)
        self.val_set = val_set
        self.detector = detector
        self.fabric = fabric = make_fabric(recipe)
        fabric.launch()
        self.batches = EpochBatches(
            len(train_set),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        self.steps_per_epoch = self.batches.batches_per_epoch
        self.step = TrainingStep(fabric, detector, recipe, steps_per_epoch=self.steps_per_epoch)
        on_cpu = fabric.device.type == "cpu"
        workers = default_workers(fabric.device.type) if recipe.workers is None else recipe.workers
        self.loader = fabric.setup_dataloaders(
            make_loader(
                TrainSamples(train_set, _transform(detector, recipe), seed=recipe.seed),
                self.batches,
                workers=workers,
                pin=not on_cpu,
                pad_value=detector.preprocessing.pad_value,
            ),
            use_distributed_sampler=False,
        )
        # reading a loss makes a GPU wait; on a CPU it costs nothing
        self.look_every = 1 if on_cpu else recipe.log_every
        self.events = EventWriter(None)
        self.epoch = 0
        self.batches_done = 0
        self.loss_sums: dict[str, Tensor] = {}
        self.best_ap: float | None = None
        self.best_epoch = 0
        self.last_loss = math.nan
        self.images_seen = 0
        self.seconds = 0.0
        self.speed = 0.0
        self.last_saved = time.monotonic()

    # --- beginning, saving, going on ---

    def start(self, *, overwrite: bool) -> None:
        """Make the folder of a new run and write down what it is."""
        if self.fabric.is_global_zero:
            self.folder.start(overwrite=overwrite)
            config = run_config(self.detector, self.train_set, self.val_set, self.recipe)
            self.folder.write_config(config)
            self.events = EventWriter(self.folder.path)
        # so that a run killed in its first epoch can be resumed like any other
        self.save_state()
        self.fabric.barrier()

    def load(self) -> None:
        """Take up the run that is in the folder."""
        state = load_state(self.folder.resume)
        check_same_run(state, self.recipe, self.data, self.folder.resume)
        self.step.load_state_dict(state.step)
        self.epoch, self.batches_done = state.epoch, state.batches_done
        device = self.fabric.device
        self.loss_sums = {name: value.to(device) for name, value in state.loss_sums.items()}
        self.best_ap, self.best_epoch = state.best_ap, state.best_epoch
        if self.fabric.is_global_zero:
            self.folder.keep_metrics_before(self.epoch + 1)
            self.events = EventWriter(self.folder.path, first_step=self.epoch + 1)

    def save_state(self) -> None:
        """Write `resume.pt`."""
        self.last_saved = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        state = ResumeState(
            recipe=self.recipe.to_dict(),
            data=self.data,
            epoch=self.epoch,
            batches_done=self.batches_done,
            step=self.step.state_dict(),
            loss_sums=self.loss_sums,
            best_ap=self.best_ap,
            best_epoch=self.best_epoch,
        )
        save_state(state, self.folder.resume)

    def display(self, shown: bool | None) -> Display:
        """The progress display; only the first process has one."""
        return make_display(shown if self.fabric.is_global_zero else False)

    # --- the loop ---

    def to_the_end(self, stop: StopRequest, display: Display) -> TrainingResult:
        """Train until the last epoch, or until AP has not risen for `patience` epochs."""
        period = self.recipe.evaluation_period(
            train_images=len(self.train_set), val_images=len(self.val_set or ())
        )
        display.start(
            epochs=self.recipe.epochs,
            steps=self.recipe.epochs * self.steps_per_epoch,
            done=self.epoch * self.steps_per_epoch + self.batches_done,
        )
        while self.epoch < self.recipe.epochs and not self._out_of_patience():
            self._train_epoch(stop, display)
            number = self.epoch + 1
            result = None
            if self.val_set and (number % period == 0 or number == self.recipe.epochs):
                result = self._evaluate(stop, display)
            self._close_epoch(result, display)
        outcome = self._result()
        if self.fabric.is_global_zero:
            report_run(
                self.folder,
                checkpoint.load(self.folder.best, device=self.fabric.device),
                self.train_set,
                self.val_set,
                self.recipe,
                best_epoch=self.best_epoch,
                images_per_second=outcome.images_per_second,
            )
        return outcome

    def _out_of_patience(self) -> bool:
        waited = self.epoch - self.best_epoch
        return 0 < self.recipe.patience <= waited and self.best_ap is not None

    def _train_epoch(self, stop: StopRequest, display: Display) -> None:
        """The rest of the epoch's steps."""
        self.step.training_mode()
        self.batches.start_at(self.epoch, self.batches_done)
        started = time.perf_counter()
        first_image = self.images_seen
        for batch in read_batches(cast(Iterable[Any], self.loader)):
            lr = self.step.lr
            losses = self.step(batch, self.epoch * self.steps_per_epoch + self.batches_done)
            for name, loss in losses.items():
                self.loss_sums[name] = self.loss_sums[name] + loss if self.batches_done else loss
            self.batches_done += 1
            self.images_seen += len(batch.images) * self.fabric.world_size
            if self.batches_done % self.look_every == 0:
                self.last_loss = self._finite(losses, batch)
            spent = time.perf_counter() - started
            display.step(
                epoch=self.epoch + 1,
                loss=self.last_loss,
                lr=lr,
                images_per_second=(self.images_seen - first_image) / spent,
            )
            self._leave_if_asked(stop)
            if time.monotonic() - self.last_saved > self.recipe.save_minutes * 60:
                self.save_state()
        self._finite(self.loss_sums, None)
        spent = time.perf_counter() - started
        self.seconds += spent
        self.speed = (self.images_seen - first_image) / spent

    def _finite(self, losses: Mapping[str, Tensor], batch: Batch | None) -> float:
        """The sum of the losses as a number.

        Raises:
            CheckError: it is infinite or not a number; the saved state is left as it was.
        """
        value = float(sum(losses.values()))
        if math.isfinite(value):
            return value
        where = f"epoch {self.epoch + 1}, step {self.batches_done} of {self.steps_per_epoch}"
        if batch is not None and self.look_every == 1:
            names = [self.train_set[int(index)].path.name for index in batch.records]
            where += f", images {', '.join(names)}"
        raise CheckError(
            f"the loss is {value} ({where}); lower the learning rate or lengthen the warm-up, "
            "and check the boxes with: flyweight data check"
        )

    def _leave_if_asked(self, stop: StopRequest) -> None:
        asked = stop.made
        if self.fabric.world_size > 1:
            # all processes must leave after the same step, or the others would wait for ever
            last = self.batches_done == self.steps_per_epoch
            if self.batches_done % self.recipe.log_every and not last:
                return
            flag = torch.tensor(float(asked), device=self.fabric.device)
            total = self.fabric.all_reduce(flag, reduce_op="sum")
            asked = float(cast(Tensor, total)) > 0
        if asked:
            raise _StopError

    # --- the end of an epoch ---

    def _evaluate(self, stop: StopRequest, display: Display) -> EvaluationResult | None:
        """AP of the averaged weights; in the first process only."""
        if not self.fabric.is_global_zero or self.val_set is None:
            return None

        def look(done: int, images: int) -> None:
            display.evaluating(done, images)
            if stop.made and self.fabric.world_size == 1:
                raise _StopError

        averaged = self.averaged()
        return evaluate(averaged, self.val_set, batch_size=self.recipe.batch_size, progress=look)

    def averaged(self) -> Detector:
        """The detector with averaged weights, and the training data in its lineage."""
        detector = cast("Detector", self.step.ema.model)
        detector.lineage = self.detector.lineage | {"data": data_lineage(self.train_set)}
        return detector

    def _close_epoch(self, result: EvaluationResult | None, display: Display) -> None:
        """Write the epoch's checkpoints and figures, and step to the next."""
        steps = self.batches_done
        losses = {name: float(total) / steps for name, total in self.loss_sums.items()}
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "loss": sum(losses.values()),
            **{f"loss_{name}": value for name, value in losses.items()},
            "lr": self.step.lr,
            "images_per_second": round(self.speed, 2),
        }
        if result is not None:
            row |= {name: getattr(result, name) for name in ("AP", "AP50", "AP75")}
        better = False
        if self.fabric.is_global_zero:
            ap = None if result is None else (result.AP or 0.0)
            better = ap is not None and (self.best_ap is None or ap > self.best_ap)
            self.best_ap = ap if better else self.best_ap
        better, self.best_ap = self.fabric.broadcast((better, self.best_ap))
        self.epoch, self.batches_done, self.loss_sums = self.epoch + 1, 0, {}
        if better or self.val_set is None:
            self.best_epoch = self.epoch
        if self.fabric.is_global_zero:
            averaged = self.averaged()
            checkpoint.save(averaged, self.folder.last)
            if better or self.val_set is None:
                checkpoint.save(averaged, self.folder.best)
            self.folder.append_metrics(row)
            self.events.write(row, step=self.epoch)
            self.save_state()
        display.epoch_done(row, self.best_ap)
        self.fabric.barrier()

    def _result(self) -> TrainingResult:
        rows = self.folder.read_metrics()
        best = next((row for row in rows if row["epoch"] == self.best_epoch), {})
        names = ("AP", "AP50", "AP75")
        return TrainingResult(
            run_dir=self.folder.path,
            best_checkpoint=self.folder.best,
            metrics={name: best.get(name) for name in names} | {"epoch": self.best_epoch},
            images_per_second=round(self.images_seen / max(self.seconds, 1e-9), 2),
            epochs=self.epoch,
        )


def _transform(detector: Detector, recipe: Recipe) -> Transform:
    return build_transform(recipe.augmentation, detector.preprocessing)
