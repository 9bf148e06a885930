"""Others' weight files become Flyweight detectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from flyweight.core.errors import InputError
from flyweight.models.detectors import build, load, save
from flyweight.models.detectors.convert import convert_weights
from flyweight.models.detectors.darknet_weights import save_darknet_weights

NAME = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def state_dict() -> dict[str, torch.Tensor]:
    """torchvision's, of four classes and background."""
    torch.manual_seed(0)
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    return network.state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_state_dict(
    suffix: str, state_dict: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".pth":
        torch.save(state_dict, path)
    else:  # sorted by name, unlike the network
        save_file({name: tensor.contiguous() for name, tensor in state_dict.items()}, path)
    detector = convert_weights(path, NAME)
    assert detector.class_names == ("class 0", "class 1", "class 2", "class 3")
    stem = next(iter(state_dict.values()))
    assert torch.equal(next(detector.model.backbone.parameters()), stem)
    assert detector.lineage["pretrained"]["file"] == path.name
    save(detector, tmp_path / "ours.safetensors")
    assert load(tmp_path / "ours.safetensors").config == detector.config
    named = convert_weights(path, NAME, classes=list("abcd"))
    assert named.class_names == tuple("abcd")


def test_darknets_weights_with_their_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"width": 0.25, "size": 64}
    theirs = build("yolov3_darknet53", classes=[str(index) for index in range(7)], **small)
    save_darknet_weights(theirs, tmp_path / "a.weights")
    ours = convert_weights(tmp_path / "a.weights", "yolov3_darknet53", **small)
    assert len(ours.class_names) == 7
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        for mine, other in zip(ours(images), theirs.eval()(images), strict=True):
            torch.testing.assert_close(mine, other)


def test_names_of_published_data_sets() -> None:
    from flyweight.data.class_names import published_class_names

    assert len(set(published_class_names(80))) == 80
    assert published_class_names(90)[0] == "person"
    assert published_class_names(90)[89] == "toothbrush"
    assert published_class_names(91)[1] == "person"
    assert published_class_names(20)[14] == "person"
    assert published_class_names(2) == ("class 0", "class 1")


def test_what_does_not_fit_is_named(state_dict: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(state_dict, path)
    with pytest.raises(
        InputError, match=r"backbone.*\[16, 3, 3, 3\] for backbone.*\[32, 3, 3, 3\]"
    ):
        convert_weights(path, "ssdlite320_mobilenet_v2")
    with pytest.raises(InputError, match="unknown model"):
        convert_weights(path, "no such model")
    with pytest.raises(InputError, match="no such weights file"):
        convert_weights(tmp_path / "none.pth", NAME)
    save(build(NAME, classes=["a"], width=0.25, size=64), tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="Flyweight checkpoint already"):
        convert_weights(tmp_path / "own.safetensors", NAME)


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"weight": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="not a readable weights file"):
        convert_weights(tmp_path / "bad.pth", NAME)
