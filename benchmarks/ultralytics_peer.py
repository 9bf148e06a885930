"""From a JPEG file to boxes: SSDlite-MobileNetV2 beside Ultralytics' smallest YOLOs, in OpenVINO.

    pip install ultralytics  # AGPL-3.0: a peer to measure, nothing of Flyweight imports it
    python benchmarks/ultralytics_peer.py [--size 320] [--rounds 60]

Ultralytics runs the files of its own OpenVINO export through its own `predict`, as its guide does,
with as many threads as Flyweight. SSDlite has the width at which it has as many multiply-adds as
YOLO11n. All weights are random but normalised, and the classes' biases are such that about 100
scores pass the threshold. All take turns in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import write_result
from torch import Tensor, nn

from flyweight.core.image import write_image
from flyweight.data.scenes import draw_scene
from flyweight.evaluation.latency import median_milliseconds
from flyweight.export.export import export
from flyweight.models.detectors import Detector, build
from flyweight.profiling.trace import trace
from flyweight.runtime.load import load_predictor

PEERS = ("yolo11n", "yolo26n")
CLASSES = 80
CANDIDATES = 100
SCORE = 0.25
THREADS = 2
SIZE_HW = (480, 640)


def main() -> None:
    """Run, print and write `results/ultralytics_peer.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    # It would write a settings file into the home folder, and install what it misses.
    os.environ.update({"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "0"})
    with tempfile.TemporaryDirectory() as folder:
        os.environ["YOLO_CONFIG_DIR"] = folder
        result = measure(Path(folder), size=options.size, rounds=options.rounds)
    print(json.dumps(result, indent=2))
    print(write_result("ultralytics_peer", result))


def measure(folder: Path, *, size: int, rounds: int) -> dict[str, Any]:
    """Export, time; everything that the JSON file says but the machine."""
    import ultralytics

    picture = folder / "scene.jpg"
    image = draw_scene(7, size_hw=SIZE_HW)[0]
    write_image(picture, image)
    peers = {name: random_peer(name, image, size) for name in PEERS}
    macs = {name: peer_macs(peers[name].model, size) for name in PEERS}
    detector = random_detector(macs[PEERS[0]], image, size)
    ours = export(detector, ["onnx", "openvino"], folder)
    sides: dict[str, Callable[[], Any]] = {}
    for name, peer in peers.items():
        with contextlib.chdir(folder):  # where it leaves its files
            file = folder / peer.export(format="openvino", imgsz=size)
        runner = ultralytics.YOLO(str(file), task="detect")
        sides[f"Ultralytics {name}, OpenVINO"] = lambda runner=runner: runner.predict(
            str(picture), imgsz=size, conf=SCORE, verbose=False
        )
    names = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
    for made in ours:
        predictor = load_predictor(made.path, threads=THREADS)
        sides[f"Flyweight SSDlite, {names[made.format]}"] = lambda predictor=predictor: (
            predictor.predict(picture, score=SCORE)
        )
    # Ultralytics takes one thread less than there are cores, unless it is told on the way.
    torch.set_num_threads(THREADS)
    found = {name: count(side()) for name, side in sides.items()}
    times = median_milliseconds(sides, repeats=rounds)
    fastest_peer = times[f"Ultralytics {PEERS[0]}, OpenVINO"]
    return {
        "what": f"640x480 JPEG file to boxes at score {SCORE}, {size} px, batch 1, median ms",
        "threads": THREADS,
        "rounds": rounds,
        "ultralytics": ultralytics.__version__,
        "mmacs": {name: round(value / 1e6) for name, value in macs.items()}
        | {"SSDlite": round(detector_macs(detector) / 1e6)},
        "rows": {
            name: {
                "ms": round(milliseconds, 2),
                "detections": found[name],
                "times_yolo11n": round(fastest_peer / milliseconds, 2),
            }
            for name, milliseconds in times.items()
        },
    }


def count(found: Any) -> int:
    """Boxes of either side's answer."""
    return len(found[0].boxes) if isinstance(found, list) else len(found)


def peer_macs(network: nn.Module, size: int) -> int:
    """Multiply-adds by this project's own counter: one rule for both sides."""
    network.eval()
    return int(trace(network, (1, 3, size, size)).macs)


def detector_macs(detector: Detector) -> int:
    """Multiply-adds of the network, without decoding."""
    height, width = detector.preprocessing.size_hw
    return int(trace(detector.model, (1, 3, height, width)).macs)


def random_peer(name: str, image: np.ndarray, size: int) -> Any:
    """An untrained YOLO whose scores are spread as a trained one's are."""
    from ultralytics import YOLO

    torch.manual_seed(0)
    yolo = YOLO(f"{name}.yaml")
    pixels = torch.from_numpy(cv2.resize(image, (size, size))).permute(2, 0, 1)[None] / 255
    settle(yolo.model, pixels)
    head = yolo.model.model[-1]
    # YOLO26 is exported with the branch that needs no NMS.
    branch = head.one2one_cv3 if getattr(head, "end2end", False) else head.cv3
    spread([level[-1] for level in branch], lambda: yolo.model(pixels), background=False)
    return yolo


def random_detector(macs: int, image: np.ndarray, size: int) -> Detector:
    """An untrained SSDlite of about `macs` multiply-adds."""

    def at(width: float) -> Detector:
        names = [f"class {index}" for index in range(CLASSES)]
        torch.manual_seed(0)
        return build("ssdlite320_mobilenet_v2", classes=names, size=size, width=width)

    widths = [step / 20 for step in range(10, 40)]
    detector = at(min(widths, key=lambda each: abs(detector_macs(at(each)) - macs)))
    pixels = torch.from_numpy(detector.preprocessing.apply(image)[0][None])
    settle(detector, pixels)
    for level in detector.model.head.regression.levels:
        nn.init.normal_(level.output.weight, std=0.01)
    levels = detector.model.head.classification.levels
    spread([level.output for level in levels], lambda: detector(pixels), background=True)
    return detector


@torch.no_grad()
def settle(network: nn.Module, pixels: Tensor) -> None:
    """Weights under which activations neither vanish nor explode, and BatchNorm's statistics."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
            module.train()
    for _ in range(8):
        network(pixels.expand(2, *pixels.shape[1:]))
    network.eval()
    # Random layers under BatchNorm are chaotic; with less gain they are as steady as trained ones.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.mul_(2.0)


@torch.no_grad()
def spread(outputs: list[nn.Conv2d], run: Callable[[], Any], *, background: bool) -> None:
    """Logits of deviation 1.2, and a bias at which about CANDIDATES scores pass SCORE.

    With `background` the first class of every anchor is that, under a softmax; else scores are
    sigmoids.
    """
    kinds = CLASSES + background
    maps: list[Tensor] = []
    hooks = [
        output.register_forward_hook(
            lambda _, __, y: maps.append(y[0].reshape(-1, kinds, y[0, 0].numel()))
        )
        for output in outputs
    ]
    run()
    for hook in hooks:
        hook.remove()
    raw = torch.cat([each.transpose(0, 1).flatten(1) for each in maps], dim=1)
    gain = 1.2 / raw.std()
    raw = (raw - raw.mean()) * gain
    low, high = -30.0, 30.0
    for _ in range(50):
        shift = (low + high) / 2
        if background:
            shifted = torch.cat([raw[:1] - shift, raw[1:]])
            passing = int((shifted.softmax(0)[1:] > SCORE).sum())
        else:
            passing = int(((raw + shift).sigmoid() > SCORE).sum())
        low, high = (low, shift) if passing > CANDIDATES else (shift, high)
    for output in outputs:
        assert output.bias is not None
        output.weight.mul_(gain)
        # The mean of all logits goes, which changes nothing under a softmax.
        output.bias.mul_(gain).sub_(raw_mean(maps) * gain)
        bias = output.bias.view(-1, kinds)
        if background:
            bias[:, 0] -= shift
        else:
            bias += shift


def raw_mean(maps: list[Tensor]) -> Tensor:
    """Of all logits of all levels."""
    return torch.cat([each.flatten() for each in maps]).mean()


if __name__ == "__main__":
    main()
