"""What every detector does: normalise, predict on pictures of any size, describe itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from flyweight.core.manifest import Manifest, Thresholds
from flyweight.core.nms import select_detections
from flyweight.core.preprocessing import Preprocessing, ResizeMode
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.zoo import build


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    mine = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    untrained = build(
        "ssdlite320_mobilenet_v2",
        classes=("a", "b"),
        size=(64, 96),
        width=0.25,
        preprocessing=mine,
        thresholds=Thresholds(score=0.3, iou=0.5, candidates_per_class=50, max_detections=20),
    )
    return with_statistics(untrained)


def with_statistics(detector: Detector) -> Detector:
    """BatchNorm's statistics from a batch of noise: scores differ, boxes leave their anchors."""
    layers = [each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        size_hw = detector.preprocessing.size_hw
        detector.train().model(torch.randn(4, 3, *size_hw))
        for name, parameter in detector.named_parameters():
            if ".output." in name:
                parameter.mul_(3)
    for layer in layers:
        layer.momentum = 0.03
    return detector.eval()


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_normalisation_is_the_formula(detector: Detector) -> None:
    image = picture(64, 96)
    expected = (image / 255.0 - (0.4, 0.5, 0.6)) / (0.2, 0.3, 0.4)
    for dtype in (torch.uint8, torch.float32):
        batch = torch.from_numpy(image)[None].to(dtype)
        normalised = detector.normalise(batch)
        assert normalised.dtype == torch.float32
        assert normalised.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(normalised[0].permute(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shortest_side"])
def test_predictions_are_the_exported_outputs_selected_in_numpy(
    detector: Detector, resize: ResizeMode
) -> None:
    """The torch path and the torch-free one give the same detections, in the pictures' pixels."""
    detector.preprocessing = replace(detector.preprocessing, resize=resize)
    images = [picture(50, 200), picture(130, 60, seed=1), picture(64, 96, seed=2)]
    found = detector.predict_batch(images)
    limits = detector.thresholds
    for image, detections in zip(images, found, strict=True):
        network_input, matrix = detector.preprocessing.apply(image)
        with torch.no_grad():
            boxes, scores = detector.eval()(torch.from_numpy(network_input)[None])
        expected = select_detections(
            boxes[0].numpy(),
            scores[0].numpy(),
            score_threshold=limits.score,
            iou_threshold=limits.iou,
            candidates_per_class=limits.candidates_per_class,
            max_detections=limits.max_detections,
        )
        mapped = detector.preprocessing.invert_boxes(
            expected.boxes_xyxy, matrix, (image.shape[0], image.shape[1])
        )
        assert 5 < len(detections) <= limits.max_detections
        np.testing.assert_allclose(detections.scores, expected.scores, atol=1e-4)
        assert detections.labels.tolist() == expected.labels.tolist()
        np.testing.assert_allclose(detections.boxes_xyxy, mapped, atol=0.05)
        assert detections.boxes_xyxy[:, 2].max() <= image.shape[1]
        assert detections.boxes_xyxy[:, 3].max() <= image.shape[0]
        assert len(np.unique(detections.scores)) == len(detections)


def test_one_picture_from_memory_or_file_above_a_score(detector: Detector, tmp_path: Path) -> None:
    image = picture(50, 70)
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), image[..., ::-1])
    every = detector.predict_batch([image])[0]
    score = float(np.median(every.scores))
    for source in (image, path):
        found = detector.predict(source, score=score)
        assert 0 < len(found) < len(every)
        np.testing.assert_allclose(found.boxes_xyxy, every.above(score).boxes_xyxy, atol=1e-3)


def test_predicting_leaves_the_mode_and_the_statistics_alone(detector: Detector) -> None:
    detector.train()
    before = {name: each.clone() for name, each in detector.state_dict().items()}
    detector.predict_batch([picture(30, 40)])
    assert detector.training
    assert all(torch.equal(before[name], each) for name, each in detector.state_dict().items())


def test_no_pictures(detector: Detector) -> None:
    assert detector.predict_batch([]) == []


def test_manifest_describes_the_detector(detector: Detector) -> None:
    manifest = Manifest.from_json(detector.manifest().to_json())
    assert manifest.model["name"] == "ssdlite320_mobilenet_v2"
    assert manifest.model["family"] == "ssd"
    assert manifest.class_names == ("a", "b")
    assert manifest.thresholds == detector.thresholds
    assert manifest.preprocessing == detector.preprocessing


def test_a_batch_without_any_object_has_a_loss_of_zero(detector: Detector) -> None:
    images = torch.from_numpy(np.stack([picture(64, 96), picture(64, 96, seed=1)]))
    empty = Targets.from_lists([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    losses = detector.train().loss(images, empty)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert [loss.item() for loss in losses.values()] == [0, 0]


def test_bf16_autocast_trains(detector: Detector) -> None:
    images = torch.from_numpy(np.stack([picture(64, 96), picture(64, 96, seed=1)]))
    targets = Targets.from_lists([torch.tensor([[5.0, 5, 60, 60]])] * 2, [torch.tensor([1])] * 2)
    full = detector.eval().loss(images, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = detector.loss(images, targets)
    for name, loss in half.items():
        assert loss.dtype == torch.float32
        # 8 bits of mantissa through fifty layers of random weights.
        assert loss.item() == pytest.approx(full[name].item(), rel=0.1)


def test_class_names_and_classes_must_agree(detector: Detector) -> None:
    with pytest.raises(ValueError, match="1 class names for 2 classes"):
        Detector(
            detector.config,
            model=detector.model,
            objective=detector.objective,
            postprocess=detector.postprocess,
            class_names=("a",),
            preprocessing=detector.preprocessing,
        )
