"""The training loop: epochs of steps, evaluation of the averaged weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flyweight.core.errors import InputError
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.training.batches import (
    EpochBatches,
    make_loader,
    read_batches,
)
from flyweight.training.devices import make_fabric, reading_processes
from flyweight.training.distillation.distil import make_distillation
from flyweight.training.epoch_losses import EpochLosses
from flyweight.training.interrupt import (
    StopError,
    StopRequest,
    TrainingInterrupted,
    stop_on_signals,
)
from flyweight.training.lineage import data_lineage, run_config
from flyweight.training.loggers import Loggers, make_loggers
from flyweight.training.loss_guard import LossGuard
from flyweight.training.processes import Processes
from flyweight.training.progress import make_display
from flyweight.training.recipe import Recipe
from flyweight.training.result import TrainingResult, training_result
from flyweight.training.resume import (
    ResumeState,
    check_same_run,
    describe_data,
    load_state,
    save_state,
)
from flyweight.training.run_folder import RunFolder
from flyweight.training.run_report import report_run
from flyweight.training.sample_source import epoch_order, make_samples, mixed
from flyweight.training.shared_evaluation import evaluate_together
from flyweight.training.step import TrainingStep
from flyweight.training.throughput import Throughput

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset
    from flyweight.evaluation.coco_ap import EvaluationResult


def train(
    detector: Detector,
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    recipe: Recipe,
    run_dir: str | Path,
    *,
    extra: DetectionDataset | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    resume_command: str | None = None,
) -> TrainingResult:
    """Train `detector` on `train_set` and keep the weights that are best on `val_set`.

    `detector` is changed in place: it ends with the raw weights of the last step. The averaged
    weights, which are the better ones, are in the result's checkpoint.

    With several processes (`recipe.devices`, or `torchrun`) it is called in each, with the same
    arguments; the first alone writes.

    Args:
        val_set: None (or empty) trains without evaluation; the last weights are then the best.
        extra: more pictures to train on, `recipe.ratio` of them for each of `train_set`.
        resume: go on with the run in `run_dir`.
        overwrite: start anew although there is a run in `run_dir`.
        progress: False shows nothing; None a bar on a terminal and lines elsewhere.
        resume_command: what to tell the user when the run is interrupted.

    Raises:
        InputError: the data, the recipe, the device or the folder cannot be used.
        CheckError: the loss is no longer a finite number; the batch is kept in the folder.
        TrainingInterrupted: Ctrl-C; the state is saved.
        ProcessLostError: another process has ended; the state that was saved last is whole.
        ElsewhereError: another process has failed and says why.
    """
    if not len(train_set):
        raise InputError("there are no images to train on", where=train_set.root)
    train_set = _with_classes(train_set, detector.class_names)
    val_set = _with_classes(val_set, detector.class_names) if val_set else None
    command = resume_command or "the same command with --resume"
    extra = _with_classes(extra, detector.class_names) if extra else None
    folder = RunFolder(Path(run_dir))
    run = Run(detector, train_set, val_set, recipe, folder, extra=extra, progress=progress)
    try:
        with run.processes.lost_ones_named(command):
            run.check_processes()
            run.processes.together(run.load if resume else lambda: run.start(overwrite=overwrite))
            with stop_on_signals() as stop, run.display:
                return run.to_the_end(stop)
    except StopError:
        raise TrainingInterrupted(
            run.folder.path, epoch=run.epoch + 1, resume_command=command
        ) from None
    finally:
        run.loggers.close()


def _with_classes(dataset: DetectionDataset, names: tuple[str, ...]) -> DetectionDataset:
    return dataset if dataset.class_names == names else dataset.remap(names)


class Run:
    """One training run: its parts, and its place in the epochs."""

    def __init__(
        self,
        detector: Detector,
        train_set: DetectionDataset,
        val_set: DetectionDataset | None,
        recipe: Recipe,
        folder: RunFolder,
        *,
        extra: DetectionDataset | None,
        progress: bool | None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.train_set = train_set
        self.extra = extra
        shown = train_set if extra is None else mixed(train_set, extra)
        self.data = describe_data(shown)
        self.val_set = val_set
        self.detector = detector
        self.fabric = fabric = make_fabric(recipe)
        self.processes = processes = Processes(fabric)
        self.display = make_display(progress if processes.first else False)
        self.loggers = Loggers()
        self.batches = EpochBatches(
            len(shown),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            rank=processes.rank,
            world_size=processes.count,
            order=epoch_order(train_set, recipe, extra=len(shown) - len(train_set)),
        )
        self.steps_per_epoch = self.batches.batches_per_epoch
        self.step = TrainingStep(
            fabric,
            detector,
            recipe,
            steps_per_epoch=self.steps_per_epoch,
            distillation=make_distillation(detector, recipe, device=fabric.device),
        )
        on_cpu = fabric.device.type == "cpu"
        workers = reading_processes(recipe, fabric.device.type)
        samples = make_samples(shown, detector.preprocessing, recipe, workers=workers)
        pad_value = detector.preprocessing.pad_value
        self.loader = fabric.setup_dataloaders(
            make_loader(
                samples,
                self.batches,
                workers=workers,
                pin=not on_cpu,
                pad_value=pad_value,
            ),
            use_distributed_sampler=False,
        )
        self.guard = LossGuard(samples, self.batches, processes, folder, pad_value=pad_value)
        # reading a loss makes a GPU wait; on a CPU it costs nothing
        self.look_every = 1 if on_cpu else recipe.log_every
        self.epoch = 0
        self.losses = EpochLosses()
        self.best_ap: float | None = None
        self.best_epoch = 0
        self.last_loss = math.nan
        self.speed = Throughput()
        self.last_saved = time.monotonic()

    # --- beginning, saving, going on ---

    def check_processes(self) -> None:
        """See that all processes have the same images and the same detector.

        Raises:
            InputError: they have not, as when a machine has a copy of the data of its own.
        """
        mine = (self.data, self.detector.manifest().to_json())
        alike = self.processes.agree(mine)

        def check() -> None:
            if not alike:
                raise InputError(
                    "the processes of the run have different images or models",
                    where=self.train_set.root,
                    fix="start them all with the same command and the same data",
                )

        self.processes.together(check)

    def start(self, *, overwrite: bool) -> None:
        """Make the folder of a new run and write down what it is."""
        if self.processes.first:
            self.folder.start(overwrite=overwrite)
            self.folder.write_config(self._config())
            self._open_loggers()
        # so that a run killed in its first epoch can be resumed like any other
        self.save_state()

    def load(self) -> None:
        """Take up the run that is in the folder."""
        state = load_state(self.folder.resume)
        check_same_run(
            state, self.recipe, self.data, self.folder.resume, processes=self.processes.count
        )
        self.step.load_state_dict(state.step)
        self.epoch = state.epoch
        device = self.fabric.device
        sums = {name: value.to(device) for name, value in state.loss_sums.items()}
        self.losses = EpochLosses(sums, steps=state.batches_done)
        self.best_ap, self.best_epoch = state.best_ap, state.best_epoch
        if self.processes.first:
            self.folder.keep_metrics_before(self.epoch + 1)
            self._open_loggers()

    def _config(self) -> dict[str, Any]:
        return run_config(self.detector, self.train_set, self.val_set, self.recipe, self.extra)

    def _open_loggers(self) -> None:
        self.loggers = make_loggers(
            self.recipe.loggers,
            self.folder,
            self._config(),
            first_epoch=self.epoch + 1,
            tell=self.display.note,
        )

    def save_state(self) -> None:
        """Write `resume.pt`."""
        self.last_saved = time.monotonic()
        if not self.processes.first:
            return
        state = ResumeState(
            recipe=self.recipe.to_dict(),
            data=self.data,
            epoch=self.epoch,
            batches_done=self.losses.steps,
            step=self.step.state_dict(),
            loss_sums=self.losses.sums,
            best_ap=self.best_ap,
            best_epoch=self.best_epoch,
            processes=self.processes.count,
        )
        save_state(state, self.folder.resume)

    # --- the loop ---

    def to_the_end(self, stop: StopRequest) -> TrainingResult:
        """Train until the last epoch, or until AP has not risen for `patience` epochs."""
        period = self.recipe.evaluation_period(
            train_images=self.batches.size, val_images=len(self.val_set or ())
        )
        if self.processes.count > 1:
            self.display.note(
                f"training in {self.processes.count} processes, "
                f"{self.processes.count * self.recipe.batch_size} images a step"
            )
        self.display.start(
            epochs=self.recipe.epochs,
            steps=self.recipe.epochs * self.steps_per_epoch,
            done=self.epoch * self.steps_per_epoch + self.losses.steps,
        )
        try:
            while self.epoch < self.recipe.epochs and not self._out_of_patience():
                self._train_epoch(stop)
                number = self.epoch + 1
                result = None
                if self.val_set and (number % period == 0 or number == self.recipe.epochs):
                    result = self._evaluate(stop)
                self._close_epoch(result)
        except StopError:
            # nobody leaves before the state is written: a launcher may end the rest then
            self.processes.together(self.save_state)
            raise
        outcome = training_result(
            self.folder,
            best_epoch=self.best_epoch,
            images_per_second=self.speed.whole,
            epochs=self.epoch,
        )
        if self.processes.first:
            self._report(outcome)
        return outcome

    def _out_of_patience(self) -> bool:
        waited = self.epoch - self.best_epoch
        return 0 < self.recipe.patience <= waited and self.best_ap is not None

    def _train_epoch(self, stop: StopRequest) -> None:
        """The rest of the epoch's steps."""
        self.step.training_mode()
        self.batches.start_at(self.epoch, self.losses.steps)
        self.speed.start_epoch()
        for batch in read_batches(cast(Iterable[Any], self.loader)):
            lr = self.step.lr
            own = self.step(batch, self.epoch * self.steps_per_epoch + self.losses.steps)
            losses, asked = self.processes.share(own, stop.made)
            self.losses.add(losses, own)
            steps = self.losses.steps
            looking = steps % self.look_every == 0 or steps == self.steps_per_epoch
            looking |= stop.made and self.processes.count == 1
            if looking:
                seen = self.losses.look()
                self.guard.check(seen, epoch=self.epoch, first_step=steps - len(seen))
                self.last_loss = seen[-1].mean
            self.display.step(
                epoch=self.epoch + 1,
                loss=self.last_loss,
                lr=lr,
                images_per_second=self.speed.add(len(batch.images) * self.processes.count),
            )
            # all processes leave after the same step, or the others would wait for ever; and what
            # is saved has been looked at
            if looking and bool(asked):
                raise StopError
            if looking and time.monotonic() - self.last_saved > self.recipe.save_minutes * 60:
                self.save_state()
        self.speed.end_epoch()

    # --- the end of an epoch ---

    def _evaluate(self, stop: StopRequest) -> EvaluationResult | None:
        """AP of the averaged weights; in the first process only."""

        def look(done: int, images: int) -> None:
            self.display.evaluating(done, images)
            if stop.made:
                raise StopError

        assert self.val_set is not None
        return evaluate_together(
            self.averaged(),
            self.val_set,
            self.processes,
            batch_size=self.recipe.batch_size,
            progress=look,
        )

    def averaged(self) -> Detector:
        """The detector with averaged weights, and the training data in its lineage."""
        detector = cast("Detector", self.step.ema.model)
        data = data_lineage(self.train_set, self.extra)
        detector.lineage = self.detector.lineage | {"data": data}
        return detector

    def _close_epoch(self, result: EvaluationResult | None) -> None:
        """Write the epoch's checkpoints and figures, and step to the next."""
        losses = self.losses.means()
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "loss": sum(losses.values()),
            **{f"loss_{name}": value for name, value in losses.items()},
            "lr": self.step.lr,
            "images_per_second": round(self.speed.epoch, 2),
        }
        if result is not None:
            row |= {name: getattr(result, name) for name in ("AP", "AP50", "AP75")}
        ap = None if result is None else (result.AP or 0.0)
        better = ap is not None and (self.best_ap is None or ap > self.best_ap)
        # the first process alone knows the result
        better, self.best_ap = self.fabric.broadcast((better, ap if better else self.best_ap))
        self.epoch, self.losses = self.epoch + 1, EpochLosses()
        best = better or self.val_set is None
        if best:
            self.best_epoch = self.epoch
        self.processes.together(lambda: self._write_epoch(row, best=best))
        self.display.epoch_done(row, self.best_ap)

    def _write_epoch(self, row: dict[str, Any], *, best: bool) -> None:
        if not self.processes.first:
            return
        averaged = self.averaged()
        checkpoint.save(averaged, self.folder.last)
        if best:
            checkpoint.save(averaged, self.folder.best)
        self.folder.append_metrics(row)
        self.loggers.write(row, step=self.epoch)
        self.save_state()

    def _report(self, outcome: TrainingResult) -> None:
        report_run(
            self.folder,
            checkpoint.load(self.folder.best, device=self.fabric.device),
            self.train_set,
            self.val_set,
            self.recipe,
            best_epoch=self.best_epoch,
            images_per_second=outcome.images_per_second,
        )
        self.loggers.finish([self.folder.report, self.folder.best])
