"""Which detector a run trains, where a preset file says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.training.model_choice import ModelChoice, anchors_of


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
