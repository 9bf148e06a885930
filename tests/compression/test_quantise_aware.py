"""The rounded network against ONNX Runtime's int8 file, and what training with it is worth."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from flyweight.compression.fold import fold
from flyweight.compression.quantise_aware import (
    ActivationRounding,
    QuantisedConv,
    Range,
    fine_tune_for_int8,
    int8_recipe,
    quantisation_aware,
    rounded_weight,
)
from flyweight.compression.quantise_onnx import Ranges, calibrate, open_graph, quantise_onnx
from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.data.records import DetectionDataset, Record
from flyweight.export.onnx import to_onnx
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.zoo import build
from flyweight.training.recipe import Recipe

CLASSES = ("red", "green")
# red and green rectangles of these places on grey, in each picture one of each
PLACES = [[4, 4, 30, 30], [30, 28, 60, 60], [6, 30, 34, 60], [32, 2, 62, 28]]


def pictures() -> tuple[Tensor, Targets]:
    """uint8 `[4, 64, 64, 3]` and the two objects of each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(90, 130, (4, 64, 64, 3), dtype=torch.uint8, generator=generator)
    boxes = torch.zeros(4, 2, 4)
    for number in range(4):
        for label in range(2):
            x1, y1, x2, y2 = PLACES[(number + 2 * label + number // 2) % 4]
            images[number, y1:y2, x1:x2] = 0
            images[number, y1:y2, x1:x2, label] = 200
            boxes[number, label] = torch.tensor([x1, y1, x2, y2])
    return images, Targets(boxes, torch.tensor([[0, 1]]).expand(4, 2))


def learn(detector: Detector, *, steps: int, lr: float) -> Detector:
    """Some steps on the four pictures; ends in evaluation mode."""
    images, targets = pictures()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=lr)
    for _ in range(steps):
        loss = torch.stack(list(detector.loss(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return detector.eval()


@pytest.fixture(scope="module")
def trained() -> Detector:
    """MobileNetV2, so that there are residuals and layers without ReLU."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    detector = build("ssdlite320_mobilenet_v2", classes=CLASSES, size=64, width=0.25)
    for norm in detector.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.2
    return learn(detector.train(), steps=40, lr=3e-3)


@pytest.fixture(scope="module")
def graph(trained: Detector) -> onnx.ModelProto:
    return to_onnx(trained)


@pytest.fixture(scope="module")
def ranges(graph: onnx.ModelProto) -> Ranges:
    return calibrate(graph, [pictures()[0].numpy()], threads=1)


def run(model: onnx.ModelProto) -> list[Tensor]:
    """Boxes `[4, A, 4]` and scores `[4, A, 2]` of the four pictures."""
    session = open_graph(model, threads=1)
    images = pictures()[0].numpy()
    runs = [session.run(["boxes", "scores"], {"images": image[None]}) for image in images]
    return [torch.from_numpy(np.concatenate(parts)) for parts in zip(*runs, strict=True)]


def class_loss(detector: Detector, scores: Tensor) -> float:
    """Cross entropy of all anchors from the scores that a file gives."""
    objective: Any = detector.objective
    wanted = objective.assign(pictures()[1])[1]
    shares = torch.cat((1 - scores.sum(-1, keepdim=True), scores), dim=-1).clamp(min=1e-6)
    return float(-shares.gather(-1, wanted.unsqueeze(-1)).log().mean())


def test_the_file_says_what_the_rounded_network_says(
    trained: Detector, graph: onnx.ModelProto, ranges: Ranges
) -> None:
    """All but one rounding of residual sums: far less than int8 itself changes."""
    aware = quantisation_aware(trained, graph, ranges)
    convolutions = sum(node.op_type == "Conv" for node in graph.graph.node)
    assert sum(isinstance(each, QuantisedConv) for each in aware.modules()) == convolutions
    with torch.no_grad():
        _, expected = aware.eval()(pictures()[0])
    _, found = run(quantise_onnx(graph, ranges))
    _, unrounded = run(graph)
    by_int8 = (found - unrounded).abs().mean()
    assert by_int8 > 1e-4
    assert (found - expected).abs().mean() < 0.35 * by_int8


def test_weights_are_those_in_the_file(graph: onnx.ModelProto, ranges: Ranges) -> None:
    tensors = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    stored = {
        each.name: numpy_helper.to_array(each)
        for each in quantise_onnx(graph, ranges).graph.initializer
    }
    names = [node.input[1] for node in graph.graph.node if node.op_type == "Conv"]
    for name in names:
        scale = stored[f"{name}_scale"].reshape(-1, 1, 1, 1)
        in_file = stored[f"{name}_quantized"].astype(np.float32) * scale
        found = rounded_weight(torch.from_numpy(tensors[name].copy())).numpy()
        # a weight just between two values may be either
        assert (np.abs(found - in_file) > 1e-6).mean() < 0.01, name
        assert (np.abs(found - in_file) <= 1.01 * scale).all(), name


def test_activations_have_256_values_of_which_one_is_zero() -> None:
    rounding = ActivationRounding(Range(-1.0, 3.0))
    x = torch.linspace(-2, 4, 6001, requires_grad=True)
    y = rounding(x)
    assert len(y.unique()) == 256
    assert (y == 0).any()
    inside = (x.detach() > -0.99) & (x.detach() < 2.99)
    assert (y - x).detach()[inside].abs().max() <= 4 / 255 / 2 + 1e-6
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad[inside] == 1).all()
    assert (x.grad[(x < -1.1) | (x > 3.1)] == 0).all()
    # a range beside zero is stretched to it; one of a single value is no division by zero
    assert float(ActivationRounding(Range(2.0, 3.0))(torch.zeros(1))) == 0
    assert float(ActivationRounding(Range(0.0, 0.0))(torch.zeros(1))) == 0


def test_training_with_roundings_beats_training_without(
    trained: Detector, graph: onnx.ModelProto, ranges: Ranges
) -> None:
    """Ranges 40 times too wide, as an outlier leaves them: six values are left to most tensors.

    The same steps with and without roundings, both files in int8 with the same ranges: neither
    calibration nor training for longer can be what helps.
    """
    wide = {name: (40 * low, 40 * high) for name, (low, high) in ranges.items()}
    untrained = class_loss(trained, run(quantise_onnx(graph, wide))[1])
    plain = fold(trained).requires_grad_(True)
    aware = quantisation_aware(trained, graph, wide)
    losses = []
    for detector in (plain, aware):
        learnt = with_weights(graph, learn(detector.train(), steps=15, lr=1e-3))
        losses.append(class_loss(trained, run(quantise_onnx(learnt, wide))[1]))
    assert losses[1] < 0.5 * min(losses[0], untrained)


def with_weights(graph: onnx.ModelProto, detector: Detector) -> onnx.ModelProto:
    """The graph of a folded detector with its weights: the exporter keeps their names."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    tensors = {each.name: each for each in changed.graph.initializer}
    state = detector.state_dict()
    for node in changed.graph.node:
        if node.op_type == "Conv":
            weight = node.input[1]
            bias = weight.removesuffix("weight") + "bias"
            # equal biases have become one tensor, and zeros none: each takes its own again
            del node.input[2:]
            node.input.append(bias)
            for name in (weight, bias):
                tensor = tensors[name] if name in tensors else changed.graph.initializer.add()
                tensor.CopyFrom(numpy_helper.from_array(state[name].contiguous().numpy(), name))
    return changed


def test_what_is_trained_is_a_plain_folded_detector(
    trained: Detector, graph: onnx.ModelProto, ranges: Ranges, tmp_path: Path
) -> None:
    before = copy.deepcopy(trained.state_dict())
    aware = quantisation_aware(trained, graph, ranges)
    assert all(each.requires_grad for each in aware.parameters())
    checkpoint.save(aware, tmp_path / "aware.safetensors")
    plain = checkpoint.load(tmp_path / "aware.safetensors")
    assert plain.config.folded
    assert not any(isinstance(each, QuantisedConv) for each in plain.modules())
    with torch.no_grad():
        torch.testing.assert_close(
            plain(pictures()[0])[1], trained(pictures()[0])[1], atol=1e-4, rtol=0
        )
    # tensors keep their names, so that the ranges fit the graph of what was trained
    tensors = {name for node in to_onnx(plain).graph.node for name in (*node.input, *node.output)}
    assert tensors >= set(ranges)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_graph_of_another_detector_is_refused(graph: onnx.ModelProto, ranges: Ranges) -> None:
    other = build("ssdlite320_mobilenet_v1", classes=CLASSES, size=64, width=0.25)
    with pytest.raises(InputError, match="none of the detector's"):
        quantisation_aware(other, graph, ranges)


def test_the_usual_loop_trains_it(
    trained: Detector, graph: onnx.ModelProto, ranges: Ranges, tmp_path: Path
) -> None:
    """Validation sees the rounded network, the run leaves a plain checkpoint, and can go on."""
    images, targets = pictures()
    records = []
    for number, image in enumerate(images.numpy()):
        write_image(tmp_path / f"{number}.png", image)
        records.append(
            Record(
                image_id=number,
                path=tmp_path / f"{number}.png",
                size_hw=(64, 64),
                boxes_xyxy=targets.boxes_xyxy[number].numpy(),
                labels=targets.labels[number].numpy(),
                crowd=np.zeros(2, bool),
                difficult=np.zeros(2, bool),
            )
        )
    data = DetectionDataset(tuple(records), CLASSES, tmp_path, "train", "coco")
    recipe = int8_recipe(
        epochs=1, batch_size=4, device="cpu", workers=0, augmentation="none", loggers=()
    )
    result = fine_tune_for_int8(
        trained, data, data, recipe, tmp_path / "run", graph=graph, ranges=ranges, progress=False
    )
    assert result.metrics["AP"] > 0.3
    found = checkpoint.load(result.best_checkpoint)
    assert found.state_dict().keys() == fold(trained).state_dict().keys()


def test_the_recipe_is_short_and_slow() -> None:
    recipe = int8_recipe(Recipe(teacher="t.safetensors", epochs=100), epochs=3)
    assert (recipe.epochs, recipe.teacher) == (3, "t.safetensors")
    assert recipe.lr < Recipe().lr
