"""What two processes of a run do together, one scenario after the other.

`test_distributed` starts this file twice, as `torchrun` would, and looks at what it leaves: the run
folders, and one JSON file a process with what each scenario gave it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor

from flyweight.data.records import DetectionDataset, Record
from flyweight.evaluation.coco_ap import average_precision
from flyweight.evaluation.evaluate import detect
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.zoo import build
from flyweight.training import loop, shared_evaluation
from flyweight.training.bad_batch import load_bad_batch
from flyweight.training.devices import make_fabric
from flyweight.training.loop import train
from flyweight.training.processes import Processes
from flyweight.training.recipe import Recipe
from flyweight.training.result import TrainingResult
from flyweight.training.shared_evaluation import evaluate_together
from flyweight.training.step import TrainingStep
from tests.training.conftest import CLASSES, draw_dataset, tiny_detector

RANK = int(os.environ.get("RANK", "0"))
# no warm-up and no averaging: every weight moves; SGD is linear in the gradient
PLAIN = Recipe(
    epochs=2, batch_size=2, device="cpu", optimizer="sgd", lr=0.01, warmup_epochs=0, ema_decay=0,
    augmentation="none", loggers=(),
)  # fmt: skip


def group_norm_detector() -> Detector:
    """No BatchNorm: what a picture gives does not depend on the others of its batch."""
    torch.manual_seed(0)
    return build("retinanet_snet", classes=CLASSES, size=64, width=0.25)


def uneven_boxes(folder: Path, count: int) -> DetectionDataset:
    """Pictures of 64 x 64 with one object or two: halves of a batch differ in their positives."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        path = folder / f"{number}.png"
        objects = 1 + (number % 3 == 0)
        cv2.imwrite(str(path), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        record = Record(
            image_id=number,
            path=path,
            size_hw=(64, 64),
            boxes_xyxy=np.array([[8, 8, 40, 40], [2, 30, 60, 62]], np.float32)[:objects],
            labels=np.array([number % 2, 1])[:objects],
            crowd=np.zeros(objects, bool),
            difficult=np.zeros(objects, bool),
        )
        records.append(record)
    return DetectionDataset(tuple(records), CLASSES, folder, "train", "coco")


def equality(folder: Path, run: Path, *, processes: int) -> None:
    """The run that has to be the same for two batches of 2 and for one of 4."""
    pictures = folder / f"equal_{RANK}_of_{processes}"
    pictures.mkdir()
    recipe = replace(PLAIN, batch_size=4 // processes)
    data = uneven_boxes(pictures, 8)
    train(group_norm_detector(), data, None, recipe, run, progress=False)


class Scenarios:
    """Each method is called in both processes; what it returns is compared by the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # each process its own files: one can spoil a picture that the other still reads
        pictures = folder / f"pictures_{RANK}"
        pictures.mkdir()
        self.data = draw_dataset(pictures, "train", 14, seed=1)
        self.val = draw_dataset(pictures, "val", 5, seed=2)
        self.recipe = Recipe(epochs=2, batch_size=2, device="cpu", warmup_epochs=0, eval_every=1)

    def train(
        self,
        name: str,
        *,
        data: DetectionDataset | None = None,
        detector: Detector | None = None,
        resume: bool = False,
        **changes: Any,
    ) -> TrainingResult:
        """A run in the folder `name`; each process has other first weights."""
        recipe = replace(self.recipe, **changes)
        run = self.folder / name
        return train(
            detector or tiny_detector(seed=RANK), data or self.data, self.val, recipe, run,
            progress=False, resume=resume,
        )  # fmt: skip

    def equal_to_one_process(self) -> dict[str, Any]:
        """Losses and weights are compared with a run of one process."""
        equality(self.folder, self.folder / "two", processes=2)
        return {}

    def shared_evaluation(self) -> dict[str, Any]:
        """5 images in batches of 2, then 1 image: fewer than processes."""
        processes = Processes(make_fabric(self.recipe))
        # of other weights in each process: the first one's must count
        detector = tiny_detector(seed=RANK).eval()
        told: list[dict[str, Any]] = []
        for data in (self.val, self.val.subset([0])):
            alone = detect(detector, data, batch_size=2)
            with patch.object(
                shared_evaluation, "average_precision", wraps=average_precision
            ) as counted:
                result = evaluate_together(detector, data, processes, batch_size=2)
            if result is None:
                told.append({"counted": counted.call_count})
                continue
            (_, shared), _ = counted.call_args
            same = [
                np.array_equal(ours.boxes_xyxy, theirs.boxes_xyxy)
                and np.array_equal(ours.scores, theirs.scores)
                and np.array_equal(ours.labels, theirs.labels)
                for ours, theirs in zip(shared, alone, strict=True)
            ]
            figures = average_precision(data, alone).to_dict()
            told.append({"same": same, "AP": [figures, result.to_dict()], "found": len(alone[0])})
        return {"told": told}

    def fewer_images_than_processes(self) -> dict[str, Any]:
        # BatchNorm cannot learn from one image
        detector = group_norm_detector()
        data = self.data.subset([0])
        return {"epochs": self.train("one_image", data=data, detector=detector).epochs}

    def one_process_without_boxes(self) -> dict[str, Any]:
        # the last image has none, and each process sees one of the two
        data, detector = self.data.subset([0, 13]), group_norm_detector()
        run = self.train("no_boxes", data=data, detector=detector, batch_size=1)
        return {"epochs": run.epochs}

    def left_alone(self) -> dict[str, Any]:
        return {"epochs": self.train("whole").epochs}

    def stopped_in_one(self) -> dict[str, Any]:
        """SIGTERM to one process alone, in its fifth step of six."""
        with before_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM) if RANK == 1 else None):
            self.train("parts")
        return {}

    def resumed(self) -> dict[str, Any]:
        return {"epochs": self.train("parts", resume=True).epochs}

    def stopped_in_evaluation(self) -> dict[str, Any]:
        original = loop.evaluate_together

        def stop_first(*args: Any, **options: Any) -> Any:
            if RANK == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*args, **options)

        with patch.object(loop, "evaluate_together", stop_first):
            self.train("stopped_in_evaluation")
        return {}

    def resumed_by_other_data(self) -> dict[str, Any]:
        self.train("parts", resume=True, data=self.data.subset(range(12)))
        return {}

    def other_images_in_one(self) -> dict[str, Any]:
        self.train("other", data=self.data.subset(range(14 - RANK)))
        return {}

    def nan_in_one(self) -> dict[str, Any]:
        """The second process' loss is nan in the second epoch's first step."""
        detector = tiny_detector(seed=0)
        original = detector.loss
        given: list[Tensor] = []

        def loss(images: Tensor, targets: Any) -> dict[str, Tensor]:
            given.append(images.clone())
            factor = torch.nan if RANK == 1 and len(given) == 4 else 1.0
            return {name: value * factor for name, value in original(images, targets).items()}

        detector.loss = loss  # type: ignore[method-assign]
        train_epoch = loop.Run._train_epoch

        def look_late(run: loop.Run, stop: Any) -> None:
            run.look_every = 3
            train_epoch(run, stop)

        try:
            # looked at only after the third step of each epoch, as on a GPU
            with patch.object(loop.Run, "_train_epoch", look_late):
                self.train("nan", detector=detector)
        finally:
            kept = load_bad_batch(self.folder / "nan" / "bad_batch.safetensors")
            same = torch.equal(kept.batch.images, given[3])
            (self.folder / f"nan_{RANK}.json").write_text(json.dumps([same, kept.process]))
        return {}

    def unreadable_in_evaluation(self) -> dict[str, Any]:
        """The third of five images, which the second process reads: batches of 2 are dealt."""
        if RANK == 1:
            self.val[2].path.write_bytes(b"no picture")
        self.train("unreadable_val")
        return {}

    def unreadable_in_training(self) -> dict[str, Any]:
        """The last scenario: a process that fails between two meetings has to leave."""
        if RANK == 1:
            for record in self.data.records:
                record.path.write_bytes(b"no picture")
        self.train("unreadable")
        return {}


@contextmanager
def before_step(number: int, act: Callable[[], object]) -> Any:
    """Call `act` before the step `number` of the run (from 0)."""
    original = TrainingStep.__call__

    def call(self: TrainingStep, batch: Any, step: int) -> Any:
        if step == number:
            act()
        return original(self, batch, step)

    with patch.object(TrainingStep, "__call__", call):
        yield


SCENARIOS = (
    "equal_to_one_process", "shared_evaluation", "fewer_images_than_processes",
    "one_process_without_boxes", "left_alone", "stopped_in_one", "resumed_by_other_data",
    "resumed", "stopped_in_evaluation", "other_images_in_one", "nan_in_one",
    "unreadable_in_evaluation", "unreadable_in_training",
)  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    loop.report_run = lambda *_, **__: None
    scenarios = Scenarios(folder)
    told: dict[str, Any] = {}
    for name in SCENARIOS:
        try:
            told[name] = getattr(scenarios, name)()
        except (Exception, KeyboardInterrupt) as error:
            told[name] = {"error": type(error).__name__, "text": str(error)}
        (folder / f"told_{RANK}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
