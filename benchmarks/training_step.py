"""Images a second of a training step: Flyweight's loop step beside its peers' own.

`ssdlite320_mobilenet_v3_large` with 91 outputs (90 classes and background) against torchvision's
reference loop on its own model, and the default of `flyweight train`, SSDlite-MobileNetV2 from
ImageNet's weights, against Ultralytics' YOLO11n with its own loss. All train on the same 320 x 320
pictures and boxes, already decoded. torchvision's step is that of `references/detection/engine.py`:
a list of float images, the loss read each step, `zero_grad`, `backward`, `step`. Ours is the step
of the training loop with all it does: normalisation, clipping, schedule and moving average.

    python benchmarks/training_step.py [--batch 8 --threads 2 --rounds 10 --variants]

Every side is a process of its own, with the memory settings that it has in use (`flyweight train`
asks for huge pages, torchvision's script does not), and waits while the others take their step.
Medians are reported. `--variants` also measures what was tried and is not the default. A peer that
is not installed is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

sys.path.insert(0, str(Path(__file__).parent))

from machine import write_result

from flyweight.cli.huge_pages import TUNABLES, with_huge_pages
from flyweight.models.detectors.zoo import build
from flyweight.training.batches import Batch
from flyweight.training.recipe import Recipe
from flyweight.training.run import PRETRAINED_FROZEN_STAGES
from flyweight.training.step import TrainingStep

SIZE, CLASSES, OBJECTS = 320, 90, 12
LR, MOMENTUM, DECAY = 1e-4, 0.9, 4e-5

Step = Callable[[], None]


def make_batch(batch_size: int) -> Batch:
    """Noise with random boxes: the time of a step does not depend on what is seen."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, SIZE, SIZE, 3), dtype=np.uint8)
    centre = rng.uniform(0, SIZE, (batch_size, OBJECTS, 2))
    half = rng.uniform(5, 80, (batch_size, OBJECTS, 2))
    boxes = np.clip(np.concatenate([centre - half, centre + half], axis=-1), 0, SIZE)
    return Batch(
        images=torch.from_numpy(images),
        boxes_xyxy=torch.from_numpy(boxes.astype(np.float32)),
        labels=torch.from_numpy(rng.integers(0, CLASSES, (batch_size, OBJECTS))),
        records=torch.arange(batch_size),
        ignored_xyxy=torch.zeros(batch_size, 0, 4),
    )


def reference(batch: Batch) -> Step:
    """torchvision's loop on torchvision's model."""
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1
    ).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    images = [image.permute(2, 0, 1).float().div(255).contiguous() for image in batch.images]
    targets = [
        {"boxes": boxes, "labels": labels + 1}
        for boxes, labels in zip(batch.boxes_xyxy, batch.labels, strict=True)
    ]

    def step() -> None:
        losses = model(images, targets)
        loss = sum(losses.values())
        if not np.isfinite(loss.item()):
            raise RuntimeError("the reference diverged")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def ours(batch: Batch, model: str = "ssdlite320_mobilenet_v3_large", **changes: Any) -> Step:
    """The step of `flyweight train`."""
    torch.manual_seed(0)
    detector = build(
        model,
        classes=[str(number) for number in range(CLASSES)],
        pretrained=changes.pop("pretrained", "none"),
    )
    settings: dict[str, Any] = {"optimizer": "sgd", "lr": LR, "weight_decay": DECAY} | changes
    recipe = Recipe(epochs=1000, warmup_epochs=0, device="cpu", **settings)
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)  # type: ignore[arg-type]
    training = TrainingStep(fabric, detector, recipe, steps_per_epoch=1000)
    training.training_mode()
    number = 0

    def step() -> None:
        nonlocal number
        losses = training(batch, number)
        if not np.isfinite(float(sum(losses.values()))):
            raise RuntimeError("the training diverged")
        number += 1

    return step


def default(batch: Batch, **changes: Any) -> Step:
    """What `flyweight train --pretrained imagenet` does unless told otherwise."""
    settings: dict[str, Any] = {
        "optimizer": "adamw",
        "pretrained": "imagenet",
        "freeze_backbone_stages": PRETRAINED_FROZEN_STAGES,
    }
    return ours(batch, "ssdlite320_mobilenet_v2", **(settings | changes))


def yolo11n(batch: Batch) -> Step:
    """Ultralytics' model and loss with its trainer's step: scaler off, clipping, average."""
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.torch_utils import ModelEMA

    torch.manual_seed(0)
    model = DetectionModel("yolo11n.yaml", nc=CLASSES, verbose=False).train()
    model.args = get_cfg()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    average = ModelEMA(model)
    corners = batch.boxes_xyxy
    targets = {
        "batch_idx": torch.arange(len(corners)).repeat_interleave(OBJECTS).float(),
        "cls": batch.labels.reshape(-1, 1).float(),
        "bboxes": torch.cat(
            [(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1
        ).reshape(-1, 4)
        / SIZE,
    }

    def step() -> None:
        images = batch.images.permute(0, 3, 1, 2).float() / 255
        loss, _ = model({"img": images, **targets})
        optimizer.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        optimizer.step()
        average.update(model)

    return step


TORCHVISION = "torchvision reference loop"
SIDES: dict[str, Callable[[Batch], Step]] = {
    TORCHVISION: reference,
    "flyweight, SGD": ours,
    "flyweight, AdamW": lambda batch: ours(batch, optimizer="adamw"),
    "flyweight, SGD, torch.compile": lambda batch: ours(batch, compile=True),
    "ultralytics yolo11n": yolo11n,
    "flyweight, default detector": default,
    "flyweight, default detector, torch.compile": lambda batch: default(batch, compile=True),
}
VARIANTS: dict[str, Callable[[Batch], Step]] = {
    "flyweight, SGD, 4 kB pages": ours,
    "torchvision reference loop, huge pages": reference,
    "flyweight, SGD, no EMA": lambda batch: ours(batch, ema_decay=0.0),
    "flyweight, SGD, no clipping": lambda batch: ours(batch, clip_norm=0.0),
    "flyweight, default detector, nothing frozen": lambda batch: default(
        batch, freeze_backbone_stages=0
    ),
}


class Side:
    """A process that takes one step when told to."""

    def __init__(self, name: str, *, batch_size: int, threads: int) -> None:
        self.name = name
        huge = ("flyweight" in name and "4 kB" not in name) or "huge" in name
        tunables = with_huge_pages("") if huge else ""
        command = [sys.executable, __file__, "--side", name]
        command += ["--batch", str(batch_size), "--threads", str(threads)]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {TUNABLES: tunables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def step(self) -> float | None:
        """Seconds of one step; None where the side has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return None
        # libraries may talk on stdout
        for line in self.process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        return None


def take_steps(name: str, *, batch_size: int, threads: int) -> None:
    """A side's process: a step for each line that comes in."""
    torch.set_num_threads(threads)
    step = (SIDES | VARIANTS)[name](make_batch(batch_size))
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        print(f"seconds {time.perf_counter() - started}", flush=True)


def measure(
    names: Sequence[str], *, rounds: int, batch_size: int, threads: int
) -> dict[str, dict[str, float]]:
    """Median and best images a second of each, measured in turns."""
    sides = [Side(name, batch_size=batch_size, threads=threads) for name in names]
    # one by one until warm: they compile
    sides = [side for side in sides if all(side.step() is not None for _ in range(3))]
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            taken = side.step()
            if taken is None:
                raise RuntimeError(f"{side.name} has ended")
            seconds[side.name].append(taken)
    for side in sides:
        side.process.kill()
    return {
        name: {
            "images_per_second": round(batch_size / statistics.median(times), 2),
            "best_images_per_second": round(batch_size / min(times), 2),
            "step_ms": round(1000 * statistics.median(times), 1),
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Measure, print and write `results/training_step.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--variants", action="store_true", help="measure what was tried too")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    if options.side:
        take_steps(options.side, batch_size=options.batch, threads=options.threads)
        return
    rows = measure(
        [*SIDES, *(VARIANTS if options.variants else ())],
        rounds=options.rounds,
        batch_size=options.batch,
        threads=options.threads,
    )
    base = rows[TORCHVISION]["images_per_second"]
    for name, row in rows.items():
        row["ratio"] = round(row["images_per_second"] / base, 2)
        print(f"{name:45} {row['images_per_second']:7.2f} images/s  {row['ratio']:.2f}x")
    if not options.no_write:
        setting = {"batch": options.batch, "threads": options.threads, "rounds": options.rounds}
        write_result("training_step", {"settings": setting, "rows": rows})


if __name__ == "__main__":
    main()
