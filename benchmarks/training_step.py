"""Images a second of a training step: Flyweight's loop step beside torchvision's reference loop.

Both train SSDlite320-MobileNetV3-Large with 91 outputs (90 classes and background), on the same
320 x 320 pictures and boxes, already decoded, with SGD and momentum. torchvision's side is its own
model behind its `GeneralizedRCNNTransform` and the step of `references/detection/engine.py`: a
list of float images, the loss read each step, `zero_grad`, `backward`, `step`. Ours is the step
of the training loop with all it does: normalisation, clipping, schedule and moving average.

    python benchmarks/training_step.py [--batch 8 --threads 2 --rounds 10 --variants --compile]

Rounds are interleaved, medians are reported. `--variants` and `--compile` also measure what was
tried and is not the default.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

sys.path.insert(0, str(Path(__file__).parent))

from machine import write_result

from flyweight.models.detectors.zoo import build
from flyweight.training.batches import Batch
from flyweight.training.recipe import Recipe
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


def ours(
    batch: Batch, *, channels_last: bool = True, compiled: bool = False, **changes: Any
) -> Step:
    """The step of `flyweight train`."""
    torch.manual_seed(0)
    detector = build(
        "ssdlite320_mobilenet_v3_large", classes=[str(number) for number in range(CLASSES)]
    )
    settings: dict[str, Any] = {"optimizer": "sgd", "lr": LR, "weight_decay": DECAY} | changes
    recipe = Recipe(epochs=1000, warmup_epochs=0, device="cpu", **settings)
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)  # type: ignore[arg-type]
    training = TrainingStep(fabric, detector, recipe, steps_per_epoch=1000)
    if not channels_last:
        detector.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if compiled:
        detector.model.compile()
    training.training_mode()
    number = 0

    def step() -> None:
        nonlocal number
        losses = training(batch, number)
        if not np.isfinite(float(sum(losses.values()))):
            raise RuntimeError("the training diverged")
        number += 1

    return step


def measure(steps: dict[str, Step], *, rounds: int, batch_size: int) -> dict[str, dict[str, float]]:
    """Median and best images a second of each, measured in turns."""
    for step in steps.values():
        step()
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
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
    parser.add_argument("--compile", action="store_true", help="and torch.compile, for minutes")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = make_batch(options.batch)
    steps = {
        "torchvision reference loop": reference(batch),
        "flyweight, SGD": ours(batch),
        "flyweight, AdamW": ours(batch, optimizer="adamw"),
    }
    if options.variants:
        steps |= {
            "flyweight, SGD, not channels-last": ours(batch, channels_last=False),
            "flyweight, SGD, no EMA": ours(batch, ema_decay=0.0),
            "flyweight, SGD, no clipping": ours(batch, clip_norm=0.0),
            "flyweight, SGD, bf16-mixed": ours(batch, precision="bf16-mixed"),
        }
    if options.compile:
        steps["flyweight, SGD, torch.compile"] = ours(batch, compiled=True)
    rows = measure(steps, rounds=options.rounds, batch_size=options.batch)
    base = rows["torchvision reference loop"]["images_per_second"]
    for name, row in rows.items():
        row["ratio"] = round(row["images_per_second"] / base, 2)
        print(f"{name:40} {row['images_per_second']:7.2f} images/s  {row['ratio']:.2f}x")
    if not options.no_write:
        setting = {"batch": options.batch, "threads": options.threads, "rounds": options.rounds}
        write_result("training_step", {"settings": setting, "rows": rows})


if __name__ == "__main__":
    main()
