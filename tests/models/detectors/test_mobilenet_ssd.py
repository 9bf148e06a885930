"""MobileNet-SSD against OpenCV running Caffe's network, both from one generated `.caffemodel`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flyweight.compression.fold import fold, unfolded_norms
from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.models.conversion.caffe import CaffeLayer, load_caffemodel, save_caffemodel
from flyweight.models.detectors.caffe_weights import load_caffe_weights
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.selection import select_batch
from flyweight.models.detectors.zoo import build
from flyweight.models.ops.coder import BoxCoder

CLASSES = tuple(f"class {index}" for index in range(20))
BATCH_NORM_EPS = 1e-5  # Caffe's default


@dataclass(frozen=True)
class Pair:
    """The same network twice, and the picture both look at, RGB uint8 `[300, 300, 3]`."""

    theirs: cv2.dnn.Net
    ours: Detector
    picture: np.ndarray


def field(layer: str, name: str, default: str = "") -> str:
    found = re.search(rf"\b{name}: *\"?([^\"\s]+)", layer)
    return found.group(1) if found else default


def generate_layers(prototxt: str, *, seed: int = 0) -> list[CaffeLayer]:
    """Random blobs for every layer of a prototxt that has some, scaled to keep values near 1."""
    rng = np.random.default_rng(seed)
    channels = {"data": 3}
    layers = []
    for text in prototxt.split("\nlayer {")[1:]:
        name, kind = field(text, "name"), field(text, "type")
        before = channels.get(field(text, "bottom"), 0)
        after = int(field(text, "num_output", str(before)))
        channels[field(text, "top")] = after
        if kind == "Convolution":
            group, size = int(field(text, "group", "1")), int(field(text, "kernel_size"))
            shape = (after, before // group, size, size)
            gain = 4.0 if "mbox_conf" in name else 1.4
            blobs = [rng.normal(0, gain / np.sqrt(np.prod(shape[1:])), shape)]
            if field(text, "bias_term", "true") == "true":
                blobs.append(rng.normal(0, 0.1, after))
        elif kind == "BatchNorm":
            # Sums, not means: Caffe divides both by the third blob.
            factor = 7.0
            blobs = [
                rng.normal(0, 0.1, after) * factor,
                rng.uniform(0.5, 1.5, after) * factor,
                np.array([factor]),
            ]
        elif kind == "Scale":
            blobs = [rng.uniform(0.7, 1.3, after), rng.normal(0, 0.1, after)]
        else:
            continue
        layers.append(CaffeLayer(name, kind, tuple(each.astype(np.float32) for each in blobs)))
    return layers


def make_pair(folder: Path, prototxt: Path, *, folded: bool) -> Pair:
    caffemodel = folder / f"{prototxt.stem}.caffemodel"
    save_caffemodel(generate_layers(prototxt.read_text()), caffemodel)
    ours = build("mobilenet_ssd300", classes=CLASSES, folded=folded)
    load_caffe_weights(ours, caffemodel)
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (15, 15, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (300, 300), interpolation=cv2.INTER_CUBIC)
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    return Pair(theirs, ours.eval(), picture)


@pytest.fixture(scope="module", params=["mobilenet_ssd_deploy", "mobilenet_ssd_deploy_with_bn"])
def pair(
    request: pytest.FixtureRequest, shared_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    prototxt = shared_dir / "reference" / f"{request.param}.prototxt"
    folded = not request.param.endswith("with_bn")
    return make_pair(tmp_path_factory.mktemp("caffe"), prototxt, folded=folded)


def run_theirs(pair: Pair, *outputs: str) -> list[np.ndarray]:
    """Outputs by name for the picture as `(x - 127.5) / 127.5`."""
    blob = cv2.dnn.blobFromImage(pair.picture, 1 / 127.5, (300, 300), (127.5, 127.5, 127.5))
    pair.theirs.setInput(blob)
    return [np.asarray(each) for each in pair.theirs.forward(list(outputs))]


def test_raw_outputs_and_default_boxes(pair: Pair) -> None:
    loc, conf, priors = run_theirs(pair, "mbox_loc", "mbox_conf_flatten", "mbox_priorbox")
    with torch.no_grad():
        images = torch.from_numpy(pair.picture)[None]
        raw = pair.ours.model(pair.ours.normalise(images))
    expected = torch.from_numpy(loc).view(1, 1917, 4)
    assert expected.std() > 0.1
    # Their offsets are divided by the variances, ours multiplied by the inverses: the same.
    torch.testing.assert_close(
        raw.deltas, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
    )
    torch.testing.assert_close(
        raw.logits.softmax(-1), torch.from_numpy(conf).view(1, 1917, 21), rtol=1e-3, atol=1e-4
    )
    boxes = torch.from_numpy(priors[0, 0].reshape(1917, 4)) * 300
    torch.testing.assert_close(pair.ours.objective.anchors.boxes_xyxy, boxes, rtol=0, atol=1e-3)
    variances = priors[0, 1].reshape(1917, 4)
    assert np.allclose(1 / variances, pair.ours.config.coder_weights)


def test_the_same_detections(pair: Pair) -> None:
    (rows,) = run_theirs(pair, "detection_out")
    rows = rows.reshape(-1, 7)
    thresholds = Thresholds(score=0.25, iou=0.45, candidates_per_class=100, max_detections=100)
    with torch.no_grad():
        images = torch.from_numpy(pair.picture)[None]
        raw = pair.ours.model(pair.ours.normalise(images))
        _, scores = pair.ours.postprocess.decode(raw)
        # Caffe overlaps boxes before it cuts them at the border, we after.
        anchors = pair.ours.objective.anchors.boxes_cxcywh
        boxes = BoxCoder(pair.ours.config.coder_weights).decode(raw.deltas, anchors)
        [(boxes, scores, labels)] = select_batch(boxes, scores, thresholds)
    assert len(rows) == len(labels) > 10
    theirs = torch.from_numpy(rows)
    same = (
        ((boxes[:, None] - theirs[:, 3:] * 300).abs().amax(-1) < 0.05)
        & ((scores[:, None] - theirs[:, 2]).abs() < 1e-3)
        & (labels[:, None] + 1 == theirs[:, 1])
    )
    assert same.any(0).all()
    assert same.any(1).all()


def test_folding_gives_the_deploy_networks_outputs(pair: Pair) -> None:
    folded = fold(pair.ours)
    assert unfolded_norms(folded) == []
    images = torch.from_numpy(pair.picture)[None]
    with torch.no_grad():
        before, after = pair.ours(images), folded(images)
    torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(after[1], before[1], rtol=1e-3, atol=1e-5)


def test_blue_first_turns_the_first_convolution(tmp_path: Path, shared_dir: Path) -> None:
    prototxt = (shared_dir / "reference" / "mobilenet_ssd_deploy.prototxt").read_text()
    save_caffemodel(generate_layers(prototxt), tmp_path / "a.caffemodel")
    stems = []
    for bgr in (False, True):
        ours = build("mobilenet_ssd300", classes=CLASSES, folded=True)
        load_caffe_weights(ours, tmp_path / "a.caffemodel", bgr=bgr)
        stems.append(next(ours.model.backbone.parameters()))
    assert torch.equal(stems[0].flip(1), stems[1])


def test_a_larger_input_costs_operations_and_no_parameter() -> None:
    """A 512×512 input gives a first map of 32×32 and (512/300)² = 2.913 times the area.

    The MACs grow by 2.79: at 300 pixels the maps of 18.75, 9.4 ... cells are rounded up.
    """
    figures = {}
    for size in (300, 512):
        detector = build("mobilenet_ssd300", classes=CLASSES, size=size).eval()
        counter = FlopCounterMode(display=False)
        with torch.device("meta"):
            images = torch.empty(1, 3, size, size)
        with counter, torch.no_grad():
            detector.to("meta").model(images)
        params = sum(each.numel() for each in detector.parameters())
        figures[size] = (detector.objective.anchors.grids[0], params, counter.get_total_flops())
    assert figures[512][0] == (32, 32)
    assert figures[512][1] == figures[300][1]
    ratio = figures[512][2] / figures[300][2]
    assert ratio == pytest.approx(2.79, abs=0.005)
    # Were maps not rounded up, the ratio would be the areas'.
    larger = FlopCounterMode(display=False)
    detector = build("mobilenet_ssd300", classes=CLASSES, size=1024).eval().to("meta")
    with larger, torch.no_grad():
        detector.model(torch.empty(1, 3, 1024, 1024, device="meta"))
    assert larger.get_total_flops() / figures[512][2] == pytest.approx((1024 / 512) ** 2, rel=0.01)


def test_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [
        CaffeLayer("conv", "Convolution", (rng.random((4, 3, 1, 1), np.float32),)),
        CaffeLayer("conv/bn", "BatchNorm", (rng.random(4, np.float32), rng.random(1, np.float32))),
    ]
    save_caffemodel(layers, tmp_path / "a.caffemodel")
    again = load_caffemodel(tmp_path / "a.caffemodel")
    assert [(each.name, each.kind) for each in again] == [(each.name, each.kind) for each in layers]
    for mine, other in zip(again, layers, strict=True):
        for a, b in zip(mine.blobs, other.blobs, strict=True):
            assert np.array_equal(a, b)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such weights file"):
        load_caffemodel(tmp_path / "none.caffemodel")
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="not a readable"):
        load_caffemodel(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="holds no layers"):
        load_caffemodel(path)
    rng = np.random.default_rng(0)
    save_caffemodel([CaffeLayer("conv0", "Convolution", (rng.random((5, 3, 3, 3)),))], path)
    with pytest.raises(InputError, match=r"conv0.weight \[5, 3, 3, 3\]"):
        load_caffe_weights(build("mobilenet_ssd300", classes=CLASSES), path)
