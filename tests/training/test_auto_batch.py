"""The largest batch that fits: what is counted against what torch allocates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from flyweight.models.detectors import build
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.auto_batch import (
    MemoryNeed,
    free_memory,
    memory_need,
    saved_bytes,
    with_largest_batch,
)
from flyweight.training.recipe import Recipe

NAMES = ("ssdlite320_mobilenet_v2", "retinanet_snet", "yolov3")


def made(name: str) -> Detector:
    options: dict[str, Any] = {"backbone": "mobilenet_v1"} if name == "yolov3" else {}
    return build(name, classes=("a",), size=128, width=0.5, **options)


def peak_of_a_step(detector: Detector, images: int) -> int:
    """The most bytes that torch's allocator held at once in a forward and a backward pass."""
    batch = torch.zeros(images, 128, 128, 3, dtype=torch.uint8)
    boxes = torch.tensor([[[0.0, 0.0, 64.0, 64.0]]]).repeat(images, 1, 1)
    targets = Targets(boxes, torch.zeros(images, 1, dtype=torch.int64))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        sum(detector.loss(batch, targets).values()).backward()  # type: ignore[union-attr]
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = most = 0
    for _, change in sorted(changes):
        held += change
        most = max(most, held)
    return most


@pytest.mark.parametrize("name", NAMES)
def test_an_images_need_is_near_what_torch_allocates_for_it(name: str) -> None:
    """Enough, and not more than twice what is used: the rest is scratch space of kernels."""
    detector = made(name)
    peak_of_a_step(detector, 2)  # gradients are there from now on
    used = (peak_of_a_step(detector, 6) - peak_of_a_step(detector, 2)) / 4
    assert used < memory_need(detector).per_image < 2 * used


def test_counting_leaves_the_detector_as_it_was() -> None:
    detector = made("ssdlite320_mobilenet_v2").eval()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    assert saved_bytes(detector, 4) > 1.5 * saved_bytes(detector, 2)
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(module.training for module in detector.modules())
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_how_many_images_fit() -> None:
    need = MemoryNeed(fixed=100, per_image=50)
    assert [need.images(memory) for memory in (90, 149, 150, 400)] == [0, 0, 1, 6]


@pytest.mark.parametrize(
    ("images", "train_images", "batch"),
    [(1000, 10_000, 64), (40, 10_000, 32), (31, 10_000, 16), (1000, 205, 16), (0, 10_000, 2)],
)
def test_the_batch_is_the_largest_power_of_two(images: int, train_images: int, batch: int) -> None:
    detector = made("retinanet_snet")
    need = memory_need(detector)
    recipe = with_largest_batch(
        Recipe(mini_batches=8),
        detector,
        train_images=train_images,
        memory=need.fixed + (images + 0.5) * need.per_image,
    )
    assert recipe.batch_size == batch
    assert recipe.lr == pytest.approx(1e-3 * math.sqrt(batch / 16))
    assert recipe.mini_batches == min(8, batch)


def test_sgd_scales_linearly() -> None:
    recipe = with_largest_batch(
        Recipe(optimizer="sgd", lr=0.01), made("retinanet_snet"), train_images=10_000, memory=1e15
    )
    assert (recipe.batch_size, recipe.lr) == (64, pytest.approx(0.04))
    assert free_memory(torch.device("cpu")) > 1e6
