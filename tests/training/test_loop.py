from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from flyweight.core.errors import CheckError, InputError
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.models.detectors import build, checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.training import loop
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.resume import load_state

NewDetector = Callable[..., Detector]


def test_a_run_leaves_its_folder(
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    run = tmp_path / "new" / "run"
    result = train(new_detector(), train_set, val_set, quick, run, progress=False)
    assert result.best_checkpoint == run / "best.safetensors"
    assert result.epochs == 2
    assert result.images_per_second > 0
    names = {path.name.split(".")[0] for path in run.iterdir()}
    assert names >= {"best", "last", "resume", "config", "metrics", "events"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    # every second epoch
    assert ["AP" in row for row in rows] == [False, True]
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss_box"] + row["loss_class"])
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert Recipe.from_dict(config["recipe"]) == quick
    assert config["model"]["class_names"] == ["red", "green"]
    assert config["data"]["train"]["images"] == 14


def test_the_reported_ap_is_that_of_the_checkpoint(
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    result = train(new_detector(), train_set, val_set, quick, tmp_path, progress=False)
    best = checkpoint.load(result.best_checkpoint)
    found = evaluate(best, val_set)
    assert result.metrics["AP"] == found.AP
    assert result.metrics["AP50"] == found.AP50
    assert best.lineage["data"]["images"] == 14


def test_it_learns(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    recipe = replace(quick, epochs=12, lr=5e-3, augmentation="none", batch_size=7)
    train(new_detector(), train_set, None, recipe, tmp_path, progress=False)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


@pytest.mark.slow
def test_it_finds_what_it_was_shown(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    recipe = replace(quick, epochs=300, lr=5e-3, augmentation="none", batch_size=7, eval_every=300)
    result = train(new_detector(), train_set, train_set, recipe, tmp_path, progress=False)
    assert result.metrics["AP50"] > 0.9


def test_the_same_seed_gives_the_same_weights(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    weights = []
    for name, seed, workers in (("a", 0, 0), ("b", 0, 1), ("c", 1, 0)):
        detector = new_detector()
        recipe = replace(quick, epochs=2, seed=seed, workers=workers)
        train(detector, train_set, None, recipe, tmp_path / name, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in detector.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_best_is_the_highest_ap_and_patience_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    figures = iter([0.1, 0.4, 0.3, None, 0.2, 0.9])
    saved: list[bytes] = []

    def fake(predictor: Any, *_: Any, **__: Any) -> Any:
        saved.append(torch.cat([p.flatten() for p in predictor.parameters()]).numpy().tobytes())
        ap = next(figures)
        return SimpleNamespace(AP=ap, AP50=ap, AP75=ap)

    monkeypatch.setattr(loop, "evaluate_together", fake)
    recipe = replace(quick, epochs=20, eval_every=1, patience=3)
    result = train(new_detector(), train_set, val_set, recipe, tmp_path, progress=False)
    assert result.epochs == 5
    assert result.metrics == {"AP": 0.4, "AP50": 0.4, "AP75": 0.4, "epoch": 2}
    best = checkpoint.load(result.best_checkpoint)
    weights = torch.cat([p.detach().flatten() for p in best.parameters()])
    assert weights.numpy().tobytes() == saved[1]


def test_frozen_layers_stay_as_they_are(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    detector = new_detector()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    recipe = replace(quick, epochs=1, freeze_backbone_stages=2)
    train(detector, train_set, None, recipe, tmp_path, progress=False)
    strides = detector.model.get_submodule("backbone.layers").strides
    assert isinstance(strides, dict)
    frozen = {name for name, stride in strides.items() if stride <= 4}
    changed = 0
    for name, value in detector.state_dict().items():
        parts = name.split(".")
        if parts[1] == "backbone" and parts[3] in frozen:
            assert torch.equal(value, before[name]), name
        else:
            changed += not torch.equal(value, before[name])
    assert changed > 50


def test_loss_that_is_no_number_stops_the_run(
    monkeypatch: pytest.MonkeyPatch,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    detector = new_detector()
    original = detector.loss
    calls = 0

    def loss(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        factor = float("nan") if calls == 5 else 1.0
        return {name: value * factor for name, value in original(*args).items()}

    monkeypatch.setattr(detector, "loss", loss)
    with pytest.raises(CheckError, match=r"nan .*epoch 2, step 2 of 3, images train_\d+.png"):
        train(detector, train_set, None, quick, tmp_path, progress=False)
    state = load_state(tmp_path / "resume.pt")
    assert (state.epoch, state.batches_done) == (1, 0)
    assert all(bool(value.isfinite().all()) for value in state.step["model"].values())


def test_bf16(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        recipe = replace(quick, epochs=1, precision=precision)
        train(new_detector(), train_set, None, recipe, tmp_path / precision, progress=False)
        row = json.loads((tmp_path / precision / "metrics.jsonl").read_text())
        losses.append(row["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]


def test_classes_in_another_order(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    recipe = replace(quick, epochs=1)
    swapped = train_set.remap(("green", "red"))
    assert swapped[0].labels.tolist() != train_set[0].labels.tolist()
    weights = []
    for name, data in (("a", train_set), ("b", swapped)):
        detector = new_detector()
        train(detector, data, None, recipe, tmp_path / name, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in detector.parameters()]))
    assert torch.equal(weights[0], weights[1])


def test_unusable_data(
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="no images"):
        train(new_detector(), train_set.subset([]), None, quick, tmp_path, progress=False)
    other = replace(val_set, class_names=("red", "violet"))
    # told before the first epoch, not after it
    with pytest.raises(InputError, match="violet"):
        train(new_detector(), train_set, other, quick, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten_by_accident(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    recipe = replace(quick, epochs=1)
    train(new_detector(), train_set, None, recipe, tmp_path, progress=False)
    before = (tmp_path / "best.safetensors").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        train(new_detector(seed=1), train_set, None, recipe, tmp_path, progress=False)
    assert (tmp_path / "best.safetensors").read_bytes() == before
    train(new_detector(seed=1), train_set, None, recipe, tmp_path, overwrite=True, progress=False)
    assert (tmp_path / "best.safetensors").read_bytes() != before
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(InputError, match="not a folder"):
        train(new_detector(), train_set, None, recipe, occupied, progress=False)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:99"])
def test_unusable_device(
    device: str,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    recipe = replace(quick, device=device)
    with pytest.raises(InputError, match=r"device|CUDA"):
        train(new_detector(), train_set, None, recipe, tmp_path, progress=False)


def test_tensorboard_events(
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(new_detector(), train_set, val_set, quick, tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path)).Reload()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in losses] == [1, 2]
    assert [value for _, value in losses] == pytest.approx([row["loss"] for row in rows])
    assert [event.step for event in events.Scalars("validation/AP")] == [2]


def test_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    train(new_detector(), train_set, val_set, quick, tmp_path)
    output = capsys.readouterr()
    assert output.out == ""
    assert "epoch 2/2  loss" in output.err
    assert "best AP" in output.err
    assert "images/s" in output.err
    assert "\x1b" not in output.err


def test_a_canvas_of_the_batch(
    train_set: DetectionDataset, val_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    """Pictures keep their shape: batches of several sizes are trained on and evaluated."""
    detector = build(
        "retinanet_resnet50_fpn", classes=train_set.class_names, size=(64, 96), width=0.125
    )
    assert detector.preprocessing.canvas == "batch"
    sizes: set[torch.Size] = set()
    detector.model.register_forward_pre_hook(lambda _, images: sizes.add(images[0].shape[2:]))
    result = train(detector, train_set, val_set, quick, tmp_path / "run", progress=False)
    assert len(sizes) > 1
    assert all(side % 32 == 0 for size in sizes for side in size)
    assert result.metrics["AP"] is not None
    assert checkpoint.load(result.best_checkpoint).preprocessing == detector.preprocessing
