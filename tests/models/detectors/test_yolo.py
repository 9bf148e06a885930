"""YOLOv3 and YOLOv4: published figures, who is positive on paper, any backbone, export."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from flyweight.compression.fold import fold
from flyweight.core.errors import InputError
from flyweight.export.onnx import to_onnx
from flyweight.models.detectors.classes import replace_classes
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.presets.yolo import YOLOV3_ANCHORS, YOLOV4_ANCHORS
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.yolo import (
    YOLOConfig,
    YOLOObjective,
    YOLOOutputs,
    YOLOPostprocess,
)
from flyweight.models.detectors.zoo import ZOO, build
from flyweight.models.matching.yolo import YOLOMatcher
from flyweight.models.ops.anchors import AnchorGrid, BoxSizes, relative_sizes
from flyweight.models.ops.yolo_coder import YOLOCoder

CLASSES = ("a", "b", "c")
SIDE = 416
STRIDES = (8, 16, 32)
GRIDS = ((52, 52), (26, 26), (13, 13))
# Of the middle level, row 6, column 13: its three anchors start here.
CELL = 3 * 52 * 52 + 3 * (6 * 26 + 13)


def small(name: str, **options: Any) -> Detector:
    torch.manual_seed(0)
    return build(name, **({"classes": CLASSES, "size": 64, "width": 0.25} | options))


def make_objective(anchors: BoxSizes = YOLOV3_ANCHORS, **options: Any) -> YOLOObjective:
    """Without a network: 416 pixels."""
    size_hw = (SIDE, SIDE)
    grid = AnchorGrid(GRIDS, relative_sizes(anchors, size_hw), size_hw=size_hw, steps=STRIDES)
    matcher = YOLOMatcher(anchors, GRIDS, STRIDES, iou_threshold=options.pop("match_iou", None))
    coder = YOLOCoder(grid, strides=STRIDES, scale_xy=(1.0,) * 3)
    return YOLOObjective(grid, coder=coder, matcher=matcher, **options)


def zeros() -> YOLOOutputs:
    """Every anchor says its own box, in the middle of its cell."""
    return YOLOOutputs(torch.zeros(1, 10647, 4), torch.zeros(1, 10647), torch.zeros(1, 10647, 3))


def one_object(width: float = 62, height: float = 45, label: int = 1) -> Targets:
    """About (213, 100): with stride 16 in row 6, column 13, at 0.3125, 0.25 of the cell."""
    box = [213 - width / 2, 100 - height / 2, 213 + width / 2, 100 + height / 2]
    return Targets.from_lists([torch.tensor([box])], [torch.tensor([label])])


@pytest.mark.parametrize(
    ("name", "params", "bflops"),
    [("yolov3_darknet53", 61.95e6, 65.9), ("yolov4_cspdarknet53", 64.36e6, 128.5)],
)
def test_published_figures(name: str, params: float, bflops: float) -> None:
    """Darknet counts two operations for each multiplication of its convolutions."""
    with torch.device("meta"):
        detector = build(name, classes=[str(index) for index in range(80)])
        images = torch.empty(1, 3, *detector.config.size_hw)
    macs = 0

    def count(conv: nn.Conv2d, _: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs
        macs += output[0, 0].numel() * conv.weight.numel()

    for layer in detector.model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    detector.eval().model(images)
    assert sum(each.numel() for each in detector.parameters()) == pytest.approx(params, rel=0.001)
    assert 2 * macs / 1e9 == pytest.approx(bflops, rel=0.01)


@pytest.mark.parametrize(
    ("name", "side"), [("yolov3_darknet53", 416), ("yolov4_cspdarknet53", 608)]
)
def test_published_input(name: str, side: int) -> None:
    config = ZOO[name](num_classes=80)
    assert config.size_hw == (side, side)
    detector = small(name)
    assert detector.preprocessing.resize == "letterbox"
    assert detector.preprocessing.mean == (0, 0, 0)
    assert detector.preprocessing.std == (1, 1, 1)
    assert detector.thresholds.score == 0.01
    assert detector.thresholds.iou == 0.45
    assert detector.thresholds.nms == ("greedy" if name == "yolov3_darknet53" else "diou")
    # Anchors stay the pixels that they are.
    anchors = detector.objective.anchors.boxes_cxcywh[:3, 2:]
    torch.testing.assert_close(anchors, torch.tensor(config.anchors[0]))


def test_the_positive_anchor_and_its_targets_on_paper() -> None:
    objective = make_objective()
    raw = zeros()
    boxes, classes = objective.assign(objective.coder.decode(raw.offsets), one_object())
    assert torch.nonzero(classes[0] != -1).flatten().tolist() == [CELL + 1]
    assert classes[0, CELL + 1] == 1
    encoded = objective.coder.encode(boxes)[0, CELL + 1]
    torch.testing.assert_close(encoded, torch.tensor([0.3125, 0.25, 0, 0]), atol=1e-5, rtol=0)


def test_losses_on_paper() -> None:
    """With all logits zero every cross entropy is log 2, and every box an anchor."""
    objective = make_objective(objectness_weight=0.5, class_weight=2.0, box_weight=3.0)
    losses = objective(zeros(), one_object(width=62 * 1.2))
    scale = 2 - 62 * 1.2 * 45 / SIDE**2
    # log 2 for x and y each, half the square of t_w.
    terms = 2 * math.log(2) + 0.5 * math.log(1.2) ** 2
    assert losses["box"].item() == pytest.approx(3 * scale * terms, rel=1e-5)
    assert losses["objectness"].item() == pytest.approx(0.5 * 10647 * math.log(2), rel=1e-5)
    assert losses["class"].item() == pytest.approx(2 * 3 * math.log(2), rel=1e-5)
    # Divided by the images of the batch, or by the positives of all.
    twice = Targets(one_object().boxes_xyxy.expand(2, -1, -1), torch.tensor([[1], [-1]]))
    raw = YOLOOutputs(*(each.expand(2, *each.shape[1:]) for each in zeros()))
    by_image = make_objective(normalisation="images")(raw, twice)["class"].item()
    by_positive = make_objective()(raw, twice)["class"].item()
    assert by_positive == pytest.approx(2 * by_image, rel=1e-5)


def test_a_good_box_of_another_anchor_is_ignored() -> None:
    """The cell on the left says (62, 45) about (208, 100): IoU 57·45 / (2·2790 - 57·45) = 0.85."""
    raw = zeros()
    left = CELL - 3 + 1
    raw.offsets[0, left, :2] = torch.tensor([20.0, -math.log(3)])
    for threshold, expected in ((0.7, -2), (0.9, -1)):
        objective = make_objective(ignore_iou=threshold)
        _, classes = objective.assign(objective.coder.decode(raw.offsets), one_object())
        assert classes[0, left] == expected
        assert classes[0, CELL + 1] == 1


def test_version_4_takes_every_anchor_that_fits() -> None:
    """IoUs with 62 x 45: 0.07, 0.25, 0.40 | 0.42, 0.67, 0.27 | 0.18, 0.06, 0.02."""
    objective = make_objective(YOLOV4_ANCHORS, match_iou=0.213, box_loss="ciou")
    raw = zeros()
    _, classes = objective.assign(objective.coder.decode(raw.offsets), one_object())
    fine = 3 * (12 * 52 + 26)
    expected = [fine + 1, fine + 2, CELL, CELL + 1, CELL + 2]
    assert torch.nonzero(classes[0] >= 0).flatten().tolist() == expected


@pytest.mark.parametrize("kind", ["offsets", "iou", "giou", "diou", "ciou"])
def test_each_box_loss_moves_the_box_onto_the_object(kind: str) -> None:
    objective = make_objective(box_loss=kind, box_weight=0.5)
    target = one_object(width=80, height=40)
    raw = zeros()
    raw.offsets.requires_grad_()
    optimiser = torch.optim.Adam([raw.offsets], lr=0.1)
    for _ in range(50):
        loss = objective(raw, target)["box"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    box = objective.coder.decode(raw.offsets)[0, CELL + 1]
    torch.testing.assert_close(box, target.boxes_xyxy[0, 0], atol=1.0, rtol=0)


@pytest.mark.parametrize("box_loss", ["offsets", "ciou"])
def test_images_without_objects_still_teach_objectness(box_loss: str) -> None:
    nothing = Targets.from_lists([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
    losses = make_objective(box_loss=box_loss)(zeros(), nothing)
    assert losses["box"] == losses["class"] == 0
    assert losses["objectness"].item() == pytest.approx(10647 * math.log(2), rel=1e-5)


def test_scores_are_objectness_times_class_and_boxes_within_the_input() -> None:
    objective = make_objective()
    postprocess = YOLOPostprocess(objective.coder, size_hw=(SIDE, SIDE))
    raw = zeros()
    raw.objectness[0, 0], raw.logits[0, 0, 2] = math.log(3), math.log(4)
    boxes, scores = postprocess.decode(raw)
    assert scores[0, 0].tolist() == pytest.approx([0.375, 0.375, 0.6])
    assert boxes[0, 0].tolist() == [0, 0, 9, 10.5]
    assert boxes[0, -1].tolist() == pytest.approx([400 - 373 / 2, 400 - 326 / 2, SIDE, SIDE])


@pytest.mark.parametrize("name", ["yolov3", "yolov4"])
@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "resnet18"])
def test_any_backbone_learns(name: str, backbone: str) -> None:
    detector = small(name, backbone=backbone, size=(64, 96)).train()
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    targets = Targets.from_lists([torch.tensor([[5.0, 8, 40, 50]])] * 2, [torch.tensor([1])] * 2)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=0.01)
    totals = []
    for _ in range(6):
        losses = detector.loss(images, targets)
        assert set(losses) == {"box", "objectness", "class"}
        total = sum(losses.values(), torch.zeros(()))
        optimiser.zero_grad()
        total.backward()
        assert all(each.grad is not None for each in detector.parameters())
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize("name", ["yolov3", "yolov4"])
def test_light_over_mobilenet(name: str) -> None:
    half = describe_params(name, width=0.5)
    assert half < 3e6
    assert half < 0.5 * describe_params(name, width=0.5, separable=False)


def describe_params(name: str, **options: Any) -> int:
    with torch.device("meta"):
        detector = build(name, classes=CLASSES, size=320, **options)
    return sum(each.numel() for each in detector.parameters())


@pytest.mark.parametrize("neck", ["fpn", "pan", "yolo_fpn", "yolo_pan"])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_any_neck_and_number_of_levels(neck: str, levels: int) -> None:
    sizes = [[(0.2, 0.2)], [(0.3, 0.4), (0.4, 0.3)], [(0.8, 0.8)], [(1.0, 1.0)]][:levels]
    detector = small("yolov4", neck=neck, default_boxes=sizes, size=(72, 100)).eval()
    with torch.no_grad():
        boxes, _ = detector(torch.zeros(1, 72, 100, 3, dtype=torch.uint8))
    grids = ((9, 13), (5, 7), (3, 4), (2, 2))
    expected = grids[1:3] if levels == 2 else grids[:levels]
    assert detector.objective.anchors.grids == expected
    assert boxes.shape[1] == len(detector.objective.anchors)
    assert detector.config.anchors[1] == ((30.0, 28.8), (40.0, pytest.approx(21.6)))


def test_other_classes_keep_boxes_and_objectness() -> None:
    detector = small("yolov3").eval()
    for predictor in detector.model.head.prediction.levels:
        nn.init.normal_(predictor.output.bias)
    other = replace_classes(detector, ("c", "z"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = detector.model(images), other.model(images)
    torch.testing.assert_close(after.offsets, before.offsets)
    torch.testing.assert_close(after.objectness, before.objectness)
    torch.testing.assert_close(after.logits[..., 0], before.logits[..., 2])
    assert after.logits.shape[-1] == 2


@pytest.mark.parametrize("name", ["yolov3_darknet53", "yolov4_cspdarknet53", "yolov3", "yolov4"])
def test_config_survives_json(name: str) -> None:
    config = ZOO[name](num_classes=3, neck_channels=(8, 16, 24))
    assert YOLOConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.name == name


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("yolov3", "mobilenet_v1"),
        # Torch takes half a minute to write down a hundred layers.
        pytest.param("yolov3_darknet53", "darknet53", marks=pytest.mark.slow),
        pytest.param("yolov4_cspdarknet53", "cspdarknet53", marks=pytest.mark.slow),
        pytest.param("yolov4", "mobilenet_v2", marks=pytest.mark.slow),
    ],
)
def test_exported_file_says_what_torch_says(name: str, backbone: str) -> None:
    detector = small(name, backbone=backbone, size=(64, 96)).eval()
    for layer in detector.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, 0, 0.2)
    for predictor in detector.model.head.prediction.levels:
        nn.init.normal_(predictor.output.bias, 0, 0.5)
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = detector(images)
        folded = fold(detector)
        assert folded.config.folded
        for mine, other in zip(folded(images), expected, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-3, rtol=0)
    session = onnxruntime.InferenceSession(to_onnx(detector).SerializeToString())
    found = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found[0], expected[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(found[1], expected[1].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neck": "ladder"}, "unknown neck 'ladder'"),
        ({"act": "swirl"}, "unknown act 'swirl'"),
        ({"norm": "layer"}, "unknown norm 'layer'"),
        ({"box_loss": "mse"}, "unknown box_loss 'mse'"),
        ({"normalisation": "anchors"}, "unknown normalisation"),
        ({"prior": 0.0}, "prior 0.0 is not between"),
        ({"ignore_iou": 1.5}, "ignore_iou 1.5 is not between"),
        ({"anchors": ()}, "anchors for no level"),
        ({"anchors": (((10.0, 0.0),),)}, "level 0 needs at least one anchor"),
        ({"scale_xy": (0.9,)}, "scale_xy"),
        ({"neck_channels": (8, 16)}, "neck_channels .8, 16. do not fit the neck yolo_fpn"),
        ({"neck": "fpn", "neck_channels": (8, 16, 24)}, "do not fit the neck fpn"),
        ({"depth": 3}, "unknown option 'depth'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small("yolov3", **options)
