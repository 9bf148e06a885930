"""Darknet's weights: files, and what OpenCV's own reading of cfg and weights computes."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flyweight.core.boxes import box_iou
from flyweight.core.errors import InputError
from flyweight.core.nms import class_aware_nms
from flyweight.models.detectors.darknet_weights import (
    darknet_layers,
    load_darknet_weights,
    save_darknet_weights,
)
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.yolo import YOLOOutputs
from flyweight.models.detectors.yolo_config import YOLOConfig
from flyweight.models.detectors.zoo import build

NETWORKS = ("yolov3_darknet53", "yolov4_cspdarknet53")
SIDE = 128


def randomise(detector: Detector, *, seed: int = 0) -> Detector:
    """Weights, norms and heads as training might leave them: activations of order 1 everywhere.

    Small gains and statistics of a batch: with others a hundred random layers would amplify
    rounding to more than the comparison allows.
    """
    generator = torch.Generator().manual_seed(seed)

    def observe(norm: nn.BatchNorm2d, arguments: tuple[Tensor]) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(0.2 * arguments[0].mean((0, 2, 3)))
        norm.running_var.copy_(arguments[0].square().mean((0, 2, 3)))

    norms = [each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(observe) for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.2, 0.4, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
        for name, each in detector.named_parameters():
            if ".output." in name:
                each.normal_(0, 0.03 if name.endswith("weight") else 1.0, generator=generator)
        detector.eval().model(torch.rand(2, 3, *detector.config.size_hw, generator=generator))
    for hook in hooks:
        hook.remove()
    return detector


@functools.cache
def trained(name: str = "yolov3_darknet53", *, classes: int = 2) -> Detector:
    """At an eighth of the channels."""
    names = [str(index) for index in range(classes)]
    return randomise(build(name, classes=names, size=64, width=0.125))


def blank(name: str = "yolov3_darknet53") -> Detector:
    """The same with other numbers."""
    detector = copy.deepcopy(trained(name))
    with torch.no_grad():
        for tensor in detector.state_dict().values():
            tensor.zero_()
    return detector


class Outputs(NamedTuple):
    """Of one network, levels finest first."""

    detector: Detector
    raw: YOLOOutputs
    # Of OpenCV: raw [1, K * (5 + C), H, W], and rows [H * W * K, 5 + C] of its yolo layers.
    their_raw: list[np.ndarray]
    their_rows: np.ndarray


@pytest.fixture(scope="module", params=NETWORKS)
def outputs(
    request: pytest.FixtureRequest, shared_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Outputs:
    """The full network of the published cfg at a small size, ours and OpenCV's."""
    name = request.param
    text = (shared_dir / "reference" / f"{name.split('_')[0]}.cfg").read_text()
    text = re.sub(r"(?m)^(width|height)=\d+", rf"\1={SIDE}", text)
    classes = [str(index) for index in range(80)]
    detector = randomise(build(name, classes=classes, size=SIDE))
    folder = tmp_path_factory.mktemp(name)
    save_darknet_weights(detector, folder / "net.weights")
    (folder / "net.cfg").write_text(text)
    network = cv2.dnn.readNetFromDarknet(str(folder / "net.cfg"), str(folder / "net.weights"))
    (folder / "net.weights").unlink()

    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    network.setInput(images.numpy())
    # Version 3 has the coarsest level first.
    order = -1 if name == "yolov3_darknet53" else 1
    yolo = [layer for layer in network.getLayerNames() if layer.startswith("yolo")][::order]
    convolutions = [f"conv_{int(layer.split('_')[1]) - 1}" for layer in yolo]
    found = network.forward(convolutions + yolo)
    with torch.no_grad():
        raw = detector.model(images)
    return Outputs(detector, raw, list(found[:3]), np.concatenate(found[3:]))


def test_raw_outputs_are_opencvs(outputs: Outputs) -> None:
    rows = torch.cat(
        (outputs.raw.offsets, outputs.raw.objectness[..., None], outputs.raw.logits), -1
    )
    start = 0
    for theirs in outputs.their_raw:
        expected = theirs.reshape(3, 85, -1).transpose(2, 0, 1).reshape(-1, 85)
        ours = rows[0, start : start + len(expected)].numpy()
        start += len(expected)
        assert expected.std() > 0.3
        assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()
    assert start == rows.shape[1]


def test_decoding_is_opencvs(outputs: Outputs) -> None:
    boxes = outputs.detector.postprocess.coder.decode(outputs.raw.offsets)[0].numpy()
    _, scores = outputs.detector.postprocess.decode(outputs.raw)
    theirs = outputs.their_rows
    centre, size = 0.5 * (boxes[:, :2] + boxes[:, 2:]), boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(centre, SIDE * theirs[:, :2], atol=2e-3)
    np.testing.assert_allclose(size, SIDE * theirs[:, 2:4], rtol=1e-3)
    # OpenCV puts 0 for scores up to 0.2.
    ours = scores[0].numpy()
    clear = np.abs(ours - 0.2) > 1e-3
    expected = np.where(ours > 0.2, ours, 0)
    assert (expected > 0).sum() > 1000
    np.testing.assert_allclose(theirs[:, 5:][clear], expected[clear], atol=1e-4)


def test_detections_are_opencvs(outputs: Outputs) -> None:
    """NMS of OpenCV on OpenCV's boxes; greedy on both sides."""
    theirs = outputs.their_rows
    anchors, labels = np.nonzero(theirs[:, 5:] > 0.5)
    scores = theirs[anchors, 5 + labels]
    corners = SIDE * (theirs[anchors, :2] - 0.5 * theirs[anchors, 2:4])
    boxes = np.clip(np.hstack([corners, corners + SIDE * theirs[anchors, 2:4]]), 0, SIDE)
    kept = []
    for label in np.unique(labels):
        of_class = np.nonzero(labels == label)[0]
        xywh = np.hstack([boxes[of_class, :2], boxes[of_class, 2:] - boxes[of_class, :2]])
        kept += list(
            of_class[cv2.dnn.NMSBoxes(xywh.tolist(), scores[of_class].tolist(), 0.5, 0.45)]
        )
    decided = [each for each in np.unique(labels) if is_decided(boxes, scores, labels == each)]
    expected = {(anchors[each], labels[each]) for each in kept if labels[each] in decided}

    our_boxes, our_scores = (
        each[0].numpy() for each in outputs.detector.postprocess.decode(outputs.raw)
    )
    anchors, labels = np.nonzero(our_scores > 0.5)
    chosen = class_aware_nms(our_boxes[anchors], our_scores[anchors, labels], labels, 0.45)
    found = {(anchors[each], labels[each]) for each in chosen if labels[each] in decided}
    assert len(found) > 20
    assert found == expected


def is_decided(boxes_xyxy: np.ndarray, scores: np.ndarray, chosen: np.ndarray) -> bool:
    """Whether rounding can change what NMS keeps of the `chosen`: two overlapping boxes of equal
    score, or an overlap that is the threshold itself."""
    iou = box_iou(boxes_xyxy[chosen], boxes_xyxy[chosen])
    apart = np.abs(scores[chosen][:, None] - scores[chosen]) > 1e-5
    doubtful = (np.abs(iou - 0.45) < 1e-3) | (~apart & (iou > 0.44))
    np.fill_diagonal(doubtful, False)
    return not doubtful.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    detector, again = trained(name), blank(name)
    path = tmp_path / "net.weights"
    save_darknet_weights(detector, path, images_seen=32_013_312)
    load_darknet_weights(again, path)
    mine, other = detector.state_dict(), again.state_dict()
    for key in mine:
        assert key.endswith("num_batches_tracked") or torch.equal(mine[key], other[key]), key
    assert np.fromfile(path, dtype="<i4", count=3).tolist() == [0, 2, 5]
    assert np.fromfile(path, dtype="<i8", count=1, offset=12) == 32_013_312
    numbers = sum(e.numel() for key, e in mine.items() if not key.endswith("num_batches_tracked"))
    assert path.stat().st_size == 20 + 4 * numbers


def test_the_old_header_is_shorter(tmp_path: Path) -> None:
    detector, again = trained(), blank()
    path = tmp_path / "net.weights"
    save_darknet_weights(detector, path)
    content = path.read_bytes()
    path.write_bytes(np.array([0, 1, 0, 7], "<i4").tobytes() + content[20:])
    load_darknet_weights(again, path)
    last = "model.head.prediction.levels.0.output.weight"
    assert torch.equal(again.state_dict()[last], detector.state_dict()[last])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_of_the_network_is_in_the_file_once(name: str) -> None:
    detector = trained(name)
    tensors = [id(each) for layer in darknet_layers(detector) for each in layer.tensors]
    own = [*detector.parameters(), *(e for k, e in detector.named_buffers() if "running" in k)]
    assert sorted(tensors) == sorted(map(id, own))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda raw: raw[:-4], r"ends in layer head\.prediction\.levels\.0\.output, which takes"),
        (lambda raw: raw[:220], r"ends in layer backbone\.layers\.stem\.conv, which takes 248 "),
        (lambda raw: raw + bytes(8), "2 numbers remain after the last layer"),
        (lambda raw: raw[:-1], "or truncated"),
        (lambda raw: raw[:6], "or truncated"),
        (lambda raw: b"", "or truncated"),
    ],
)
def test_a_file_of_another_length_is_refused(
    tmp_path: Path, cut: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "net.weights"
    save_darknet_weights(trained(), path)
    path.write_bytes(cut(path.read_bytes()))
    detector = blank()
    with pytest.raises(InputError, match=message) as caught:
        load_darknet_weights(detector, path)
    assert caught.value.where == str(path)
    assert not any(each.any() for each in detector.state_dict().values())


def test_other_classes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.weights"
    save_darknet_weights(trained(classes=5), path)
    with pytest.raises(InputError, match="that of 5 classes, the detector has 2: build it with 5"):
        load_darknet_weights(blank(), path)
    with pytest.raises(InputError, match="no such file"):
        load_darknet_weights(blank(), tmp_path / "missing.weights")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "mobilenet_v2"}, "no network like yolov3_darknet53 over mobilenet_v2"),
        ({"neck": "yolo_pan"}, "no network like"),
        ({"separable": True}, "no network like"),
        ({"folded": True}, "BatchNorm after each"),
        ({"backbone_norm": "group"}, "BatchNorm after each"),
        ({"anchors": (((1.0, 1.0),),) * 4}, "three levels"),
    ],
)
def test_networks_that_darknet_does_not_have(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    detector = blank()
    detector.config = replace(cast(YOLOConfig, detector.config), **options)
    for run in (load_darknet_weights, save_darknet_weights):
        with pytest.raises(InputError, match=message):
            run(detector, tmp_path / "net.weights")
    assert list(tmp_path.iterdir()) == []


def test_detectors_of_another_family() -> None:
    with pytest.raises(InputError, match="no network like ssdlite"):
        darknet_layers(build("ssdlite320_mobilenet_v2", classes=("a",), size=64, width=0.25))
