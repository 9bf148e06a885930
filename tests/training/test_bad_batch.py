"""A batch that is kept, read back, and made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flyweight.core.errors import CheckError, InputError
from flyweight.core.image import read_image
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.detector import Detector
from flyweight.training.bad_batch import BadBatch, contact_sheet, load_bad_batch, save_bad_batch
from flyweight.training.batches import Batch
from flyweight.training.loop import Run, train
from flyweight.training.recipe import Recipe
from flyweight.training.resume import load_state


@pytest.fixture
def bad() -> BadBatch:
    """Three pictures: a box, one that is no number beside one far outside, and nothing."""
    boxes = torch.zeros(3, 2, 4)
    boxes[0, 0] = torch.tensor([8.0, 10, 40, 50])
    boxes[1, 0] = torch.nan
    boxes[1, 1] = torch.tensor([-1e30, 0, 1e30, 30])
    return BadBatch(
        Batch(
            images=torch.randint(0, 255, (3, 64, 96, 3), dtype=torch.uint8),
            boxes_xyxy=boxes,
            labels=torch.tensor([[1, -1], [0, 0], [-1, -1]]),
            records=torch.tensor([4, 0, 9]),
            ignored_xyxy=torch.zeros(3, 0, 4),
        ),
        epoch=3,
        step=7,
        process=1,
        loss=float("nan"),
        file_names=("a.jpg", "b.jpg", "ü.jpg"),
        class_names=("cup", "pen"),
    )


def test_it_reads_back_as_it_was(bad: BadBatch, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    save_bad_batch(bad, path)
    again = load_bad_batch(path)
    for ours, theirs in zip(again.batch, bad.batch, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(torch.nan_to_num(ours), torch.nan_to_num(theirs))
    assert again.loss != again.loss
    assert replace(again, batch=bad.batch, loss=0) == replace(bad, loss=0)
    # and by whoever knows safetensors
    assert torch.equal(load_file(path)["images"], bad.batch.images)


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_another_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.safetensors"):
        load_bad_batch(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="no batch"):
        load_bad_batch(path)


def test_the_sheet_shows_every_picture(bad: BadBatch) -> None:
    """Two columns, two rows, doubled: 64 x 96 pixels are few; box edges where they belong."""
    sheet = contact_sheet(bad)
    assert sheet.shape == (2 * 128 + 4, 2 * 192 + 4, 3)
    first, doubled = sheet[:128, :192], bad.batch.images[0].numpy().repeat(2, 0).repeat(2, 1)
    changed = (first != doubled).any(axis=2)
    # the left edge of the box 8..40 x 10..50, and nothing to its right
    assert changed[40:100, 16].all()
    assert not changed[:, 90:].any()
    third = bad.batch.images[2].numpy().repeat(2, 0).repeat(2, 1)
    assert (sheet[132:, :192] == third).all()


@pytest.mark.parametrize("look_every", [1, 3])
def test_the_batch_of_a_bad_loss_is_kept(
    look_every: int,
    monkeypatch: pytest.MonkeyPatch,
    new_detector: Callable[..., Detector],
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    """Also where losses are looked at every third step, as on a GPU: those after are bad, too."""
    detector = new_detector()
    original = detector.loss
    given: list[tuple[torch.Tensor, Any]] = []

    def loss(images: torch.Tensor, targets: Any) -> dict[str, torch.Tensor]:
        given.append((images.clone(), targets))
        factor = float("inf") if len(given) >= 5 else 1.0
        return {name: value * factor for name, value in original(images, targets).items()}

    monkeypatch.setattr(detector, "loss", loss)
    epoch_of = Run._train_epoch

    def look_seldom(run: Run, stop: Any) -> None:
        run.look_every = look_every
        epoch_of(run, stop)

    monkeypatch.setattr(Run, "_train_epoch", look_seldom)
    with pytest.raises(CheckError, match=r"inf \(epoch 2, step 2 of 3, .*bad_batch\.png") as caught:
        # saved as often as can be, and yet not before the losses were looked at
        recipe = replace(quick, save_minutes=0)
        train(detector, train_set, None, recipe, tmp_path, progress=False)
    state = load_state(tmp_path / "resume.pt")
    assert (state.epoch, state.batches_done) == (1, 1 if look_every == 1 else 0)
    assert all(bool(value.isfinite().all()) for value in state.step["model"].values())
    assert len(given) == (5 if look_every == 1 else 6)
    kept = load_bad_batch(tmp_path / "bad_batch.safetensors")
    images, targets = given[4]
    assert torch.equal(kept.batch.images, images)
    assert torch.equal(kept.batch.boxes_xyxy, targets.boxes_xyxy)
    assert torch.equal(kept.batch.labels, targets.labels)
    assert (kept.epoch, kept.step, kept.process) == (2, 2, 0)
    assert all(name in str(caught.value) for name in kept.file_names)
    # 4 images of 64 pixels, four times as large
    assert read_image(tmp_path / "bad_batch.png").shape == (516, 516, 3)
    # a new run leaves no trace of it
    train(new_detector(), train_set, None, replace(quick, epochs=1), tmp_path, overwrite=True)
    assert not list(tmp_path.glob("bad_batch*"))
