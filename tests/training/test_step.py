"""One step: gradient accumulation, norms, sizes, hidden objects, dropped blocks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.detectors import build
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.layers import CmBN
from flyweight.training.adversarial import hide_objects, no_objects
from flyweight.training.batches import Batch
from flyweight.training.devices import make_fabric
from flyweight.training.drop_block import attach_drop_block
from flyweight.training.multi_scale import MultiScale
from flyweight.training.norms import synchronise_norms
from flyweight.training.recipe import Recipe
from flyweight.training.step import TrainingStep, split

RECIPE = Recipe(
    epochs=2, batch_size=4, device="cpu", optimizer="sgd", lr=1e-2, warmup_epochs=0, clip_norm=0
)


def made(**options: Any) -> Detector:
    torch.manual_seed(0)
    return build("retinanet_snet", classes=("a", "b"), size=64, width=0.25, **options)


def batch(images: int = 4, *, size: int = 64) -> Batch:
    """Different pictures with the same boxes: as many positive anchors in each."""
    generator = torch.Generator().manual_seed(1)
    return Batch(
        images=torch.randint(
            0, 256, (images, size, size, 3), dtype=torch.uint8, generator=generator
        ),
        boxes_xyxy=torch.tensor([[[4.0, 6, 40, 44], [30, 20, 60, 62]]]).repeat(images, 1, 1),
        labels=torch.tensor([[0, 1]]).repeat(images, 1),
        records=torch.arange(images),
        ignored_xyxy=torch.zeros(images, 0, 4),
    )


def stepped(recipe: Recipe, detector: Detector | None = None, steps: int = 2) -> TrainingStep:
    step = TrainingStep(make_fabric(recipe), detector or made(), recipe, steps_per_epoch=4)
    step.training_mode()
    for number in range(steps):
        step(batch(), number)
    return step


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_gives_the_same_weights(parts: int) -> None:
    """GroupNorm, and as many positives in each part: nothing but rounding may differ."""
    whole = stepped(RECIPE)
    pieces = stepped(replace(RECIPE, mini_batches=parts))
    before = made().state_dict()
    for name, value in whole.detector.state_dict().items():
        other = pieces.detector.state_dict()[name]
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6, msg=name)
    assert sum(not torch.equal(before[n], v) for n, v in whole.detector.state_dict().items()) > 50
    losses, expected = (each(batch(), 2) for each in (pieces, whole))
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_takes_the_same_steps() -> None:
    plain, compiled = stepped(RECIPE), stepped(replace(RECIPE, compile=True))
    for name, value in plain.detector.state_dict().items():
        found = compiled.detector.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5, msg=name)
    assert compiled.ema.model.state_dict().keys() == plain.ema.model.state_dict().keys()


def test_parts_are_nearly_equal_and_keep_their_boxes() -> None:
    parts = split(batch(5), 3)
    assert [len(part.images) for part in parts] == [2, 2, 1]
    assert torch.cat([part.records for part in parts]).tolist() == [0, 1, 2, 3, 4]
    assert len(split(batch(2), 4)) == 2


def test_joined_norms_count_over_the_parts_of_a_batch() -> None:
    """CmBN's running statistics after a step in two parts are BatchNorm's after one in a whole,
    in the first layer, where both see the same values."""
    joined = stepped(replace(RECIPE, mini_batches=2), made(backbone_norm="cmbn"), steps=1)
    whole = stepped(RECIPE, made(backbone_norm="batch"), steps=1)
    first, expected = (
        next(m for m in each.detector.modules() if isinstance(m, nn.BatchNorm2d))
        for each in (joined, whole)
    )
    assert isinstance(first, CmBN)
    assert not isinstance(expected, CmBN)
    assert first.mini_batches == 2
    assert first.running_mean is not None
    assert expected.running_mean is not None
    torch.testing.assert_close(first.running_mean, expected.running_mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first.running_var, expected.running_var, rtol=1e-4, atol=1e-6)
    assert int(first.num_batches_tracked or 0) == int(expected.num_batches_tracked or 0) == 1


def test_frozen_norms_stay_as_they_are() -> None:
    detector = made(backbone_norm="batch")
    norms = {name for name, m in detector.named_modules() if isinstance(m, nn.BatchNorm2d)}
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    stepped(replace(RECIPE, freeze_norms=True), detector)
    changed = [
        name
        for name, value in detector.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert len(norms) > 5
    assert len(changed) > 20
    assert not [name for name in changed if name.rpartition(".")[0] in norms]


def test_norms_are_synchronised_on_gpus_only() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    alone: Any = SimpleNamespace(world_size=1, device=torch.device("cpu"))
    assert synchronise_norms(network, alone) is network
    two: Any = SimpleNamespace(world_size=2, device=torch.device("cpu"))
    with pytest.raises(InputError, match="CUDA GPUs only"):
        synchronise_norms(network, two)
    gpus: Any = SimpleNamespace(world_size=2, device=torch.device("cuda"))
    names = set(network.state_dict())
    made = synchronise_norms(network, gpus)
    assert isinstance(made.get_submodule("1"), nn.SyncBatchNorm)
    assert set(made.state_dict()) == names


def test_one_image_is_too_few_for_a_norm_over_one_cell(
    new_detector: Callable[..., Detector],
) -> None:
    recipe = replace(RECIPE, batch_size=4, mini_batches=4)
    step = TrainingStep(make_fabric(recipe), new_detector(), recipe, steps_per_epoch=4)
    step.training_mode()
    with pytest.raises(InputError, match="one image at a time is too few"):
        step(batch(), 0)


# --- sizes ---


def test_boxes_follow_the_size() -> None:
    """A coloured rectangle lies where its box says, in every size."""
    images = torch.zeros(1, 96, 128, 3, dtype=torch.uint8)
    images[0, 24:72, 40:104] = 255
    given = Batch(
        images,
        boxes_xyxy=torch.tensor([[[40.0, 24, 104, 72]]]),
        labels=torch.zeros(1, 1).long(),
        records=torch.zeros(1),
        ignored_xyxy=torch.tensor([[[40.0, 24, 104, 72]]]),
    )
    scale = MultiScale((0.5, 2.0), steps=1)
    sizes = set()
    for step in range(12):
        resized = scale(given, step)
        sizes.add(tuple(resized.images.shape[1:3]))
        rows, columns = np.nonzero(resized.images[0, ..., 0].numpy() > 127)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(resized.boxes_xyxy[0, 0], seen, atol=1)
        np.testing.assert_array_equal(resized.ignored_xyxy, resized.boxes_xyxy)
    assert len(sizes) > 3
    assert all(side % 32 == 0 for size in sizes for side in size)


def test_the_size_follows_from_the_step() -> None:
    scale = MultiScale((0.5, 1.5), seed=3)
    drawn = [scale.size_hw((320, 320), step) for step in range(200)]
    assert drawn == [MultiScale((0.5, 1.5), seed=3).size_hw((320, 320), s) for s in range(200)]
    assert all(len(set(drawn[start : start + 10])) == 1 for start in range(0, 200, 10))
    sides = {height for height, _ in drawn}
    assert min(sides) >= 160
    assert max(sides) <= 480
    assert len(sides) > 5
    unchanged = MultiScale((1.0, 1.0))(batch(), 0)
    assert unchanged.images.dtype == torch.uint8


def test_a_step_at_another_size_trains() -> None:
    seen: set[tuple[int, ...]] = set()
    detector = made()
    detector.model.register_forward_pre_hook(lambda _, given: seen.add(tuple(given[0].shape[2:])))
    recipe = replace(RECIPE, multi_scale=(0.5, 2.0), seed=1)
    step = TrainingStep(make_fabric(recipe), detector, recipe, steps_per_epoch=40)
    step.training_mode()
    for number in (0, 10, 20, 30):
        assert all(loss.isfinite() for loss in step(batch(), number).values())
    assert len(seen) > 1


# --- hidden objects ---


def test_objects_are_hidden_from_the_network_and_from_nothing_else() -> None:
    adam = replace(RECIPE, optimizer="adamw", lr=3e-3, epochs=100)
    detector = stepped(adam, made(), steps=40).detector
    detector.zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    given = batch()
    hidden = hide_objects(detector, given.images, pixels=4.0)
    assert (hidden - given.images.float()).abs().max() <= 4
    assert hidden.min() >= 0
    assert hidden.max() <= 255
    assert detector.training
    assert all(parameter.grad is None for parameter in detector.parameters())
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name]), name
    detector.eval()

    def loss(images: Tensor, targets: Targets) -> float:
        with torch.no_grad():
            return float(sum(detector.loss(images, targets).values()))

    nothing = no_objects(4, given.images.device)
    objects = Targets(given.boxes_xyxy, given.labels)
    assert loss(hidden, nothing) < loss(given.images, nothing)
    assert loss(hidden, objects) > loss(given.images, objects)


def test_a_share_of_the_steps_hides_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    from flyweight.training import step as module

    hidden: list[int] = []

    def record(_: Detector, images: Tensor, *, pixels: float) -> Tensor:
        hidden.append(len(images))
        return images

    monkeypatch.setattr(module, "hide_objects", record)
    recipe = replace(RECIPE, adversarial=0.5)
    step = TrainingStep(make_fabric(recipe), made(), recipe, steps_per_epoch=40)
    step.training_mode()
    for number in range(20):
        step._prepare(batch(), number)
    assert 4 < len(hidden) < 16


# --- dropped blocks ---


def test_blocks_are_dropped_in_training_only_and_more_and_more(
    new_detector: Callable[..., Detector],
) -> None:
    detector = new_detector()
    names = set(detector.state_dict())
    images = torch.rand(2, 3, 64, 64)
    backbone = detector.model.get_submodule("backbone")
    detector.eval()
    plain = backbone(images)
    layers = attach_drop_block(detector, 0.5)
    shares = []
    for progress in (0.0, 0.5, 1.0):
        for layer in layers:
            layer.set_progress(progress)
        torch.manual_seed(0)
        backbone.train()
        for norm in backbone.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eval()
        levels = backbone(images)
        shares.append(float((levels[-1] == 0).float().mean() - (plain[-1] == 0).float().mean()))
        backbone.eval()
        for left, right in zip(backbone(images), plain, strict=True):
            assert torch.equal(left, right)
    assert shares[0] == pytest.approx(0, abs=1e-6)
    assert shares[0] < shares[1] < shares[2]
    assert set(detector.state_dict()) == names


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mini_batches", 0),
        ("mini_batches", 17),
        ("multi_scale", (1.5, 0.5)),
        ("multi_scale", (0.0, 0.5)),
        ("adversarial", 1.5),
        ("drop_block", -0.1),
    ],
)
def test_values_out_of_range_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        Recipe.from_dict({field: value})
