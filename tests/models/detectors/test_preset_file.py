"""Preset files: written and read back they make the same detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.models.detectors.preset_file import (
    Preset,
    is_preset_file,
    read_preset,
    write_preset,
)
from flyweight.models.detectors.zoo import ZOO, build, family_of, preset_of

CLASSES = ("a", "b", "c")
# Together every kind of value that a config has: numbers, words, tuples of tuples, None.
CHANGES: dict[str, dict[str, Any]] = {
    "ssdlite": {"backbone": "mobilenet_v3_small", "size": 96, "width": 0.25, "extras": (64, 64)},
    "ssd300_vgg16": {"width": 0.125, "steps": None, "norm": "batch"},
    "retinanet_snet": {"size": (96, 128), "tower_channels": (32, 32), "anchor_offset": 0.25},
    "yolov3": {"width": 0.25, "neck_channels": (32, 64, 96), "backbone": "document_net"},
    "mobilenet_ssd300": {"backbone_options": {"act": "relu6"}, "width": 0.25},
}


@pytest.mark.parametrize("name", CHANGES)
def test_build_from_the_file_of_a_config(name: str, tmp_path: Path) -> None:
    changes = dict(CHANGES[name])
    if "extras" in changes:
        changes["default_boxes"] = (((0.2, 0.3),),) * 4
    config = build(name, classes=CLASSES, **changes).config
    path = tmp_path / "mine.yaml"
    write_preset(preset_of(config), path, about="first line\nsecond line")
    assert path.read_text(encoding="utf-8").startswith("# first line\n# second line\nmodel: ")
    assert build(str(path), classes=CLASSES).config == config
    assert family_of(str(path)).name == config.family


@pytest.mark.parametrize("name", ZOO)
def test_a_plain_model_needs_no_field(name: str) -> None:
    # MobileNetV3's halved tail is not in its preset, but in what the zoo makes of it
    options = {"reduced_tail": True} if "mobilenet_v3" in name and "ssd" in name else {}
    assert preset_of(ZOO[name](num_classes=3, **options)) == Preset(name, {})


def test_what_is_given_beside_the_file_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("model: ssdlite\nwidth: 0.25\nsize_hw: [96, 64]\nhead: conv1x1\n")
    config: Any = build(str(path), classes=CLASSES, size=64, head="conv3x3").config
    assert (config.size_hw, config.width, config.head) == ((64, 64), 0.25, "conv3x3")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("width: 0.5", "names a model"),
        ("- ssdlite", "names a model"),
        ("model: [", "broken YAML"),
        ("model: ssdlite\nnum_classes: 3", "num_classes"),
        ("model: ssdlight", "did you mean ssdlite"),
        ("model: ssdlite\ncolour: red", "colour"),
    ],
)
def test_files_that_make_no_detector_are_refused(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=part):
        build(str(path), classes=CLASSES)


def test_missing_files_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    assert not is_preset_file("ssdlite")
    with pytest.raises(InputError, match="no such preset file"):
        read_preset(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"ends in \.yaml"):
        write_preset(Preset("ssdlite"), tmp_path / "mine.txt")
