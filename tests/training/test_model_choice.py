"""Which detector a run trains, where a preset file says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors import build
from flyweight.models.detectors.preset_file import write_preset
from flyweight.models.detectors.zoo import preset_of
from flyweight.profiling.advice.anchors import with_fitted_anchors
from flyweight.training.model_choice import ModelChoice, anchors_of, make_detector


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("model: ssdlite\nsize_hw: [96, 64]\nwidth: 0.25\nhead: conv1x1\n")
    return path


def test_a_preset_file_is_no_checkpoint(preset: Path) -> None:
    assert not ModelChoice(preset).is_file
    assert ModelChoice("last.safetensors").is_file


def test_spelled_out_it_is_a_model_and_its_fields(preset: Path) -> None:
    assert ModelChoice(preset).spelled_out() == ModelChoice(
        "ssdlite", size=(96, 64), width=0.25, options={"head": "conv1x1"}
    )
    plain = ModelChoice("ssdlite", width=0.5)
    assert plain.spelled_out() is plain


def test_what_is_given_beside_it_goes_first(preset: Path) -> None:
    given = ModelChoice(preset, size=64, width=0.5, options={"head": "conv3x3", "norm": "group"})
    assert given.spelled_out() == ModelChoice(
        "ssdlite", size=64, width=0.5, options={"head": "conv3x3", "norm": "group"}
    )


def test_anchors_of_a_preset_file(preset: Path) -> None:
    assert anchors_of(ModelChoice(preset)).size_hw == (96, 64)
    with pytest.raises(InputError, match="no such preset file"):
        ModelChoice(preset.with_name("none.yaml")).spelled_out()


@pytest.mark.parametrize("model", ["ssdlite", "retinanet_snet", "yolov3"])
@pytest.mark.parametrize("anchors", [None, "fit"])
def test_a_designed_preset_trains_with_its_own_anchors(
    model: str, anchors: str | None, train_set: DetectionDataset, tmp_path: Path
) -> None:
    """Those that `flyweight design` has fitted, and written into the file."""
    config = build(model, classes=train_set.class_names, size=96, width=0.25).config
    designed = with_fitted_anchors(config, train_set)
    write_preset(preset_of(designed), tmp_path / "designed.yaml")
    choice = ModelChoice(tmp_path / "designed.yaml", anchors=anchors).spelled_out()
    made = anchors_of(make_detector(choice, train_set))
    wanted = anchors_of(build(str(tmp_path / "designed.yaml"), classes=train_set.class_names))
    assert made.boxes_per_level == wanted.boxes_per_level
    if anchors is None:
        torch.testing.assert_close(made.boxes_xyxy, wanted.boxes_xyxy)
    plain = anchors_of(build(model, classes=train_set.class_names, size=96, width=0.25))
    assert not torch.equal(made.boxes_xyxy, plain.boxes_xyxy)
