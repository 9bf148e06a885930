"""What folding BatchNorm buys: MobileNet-SSD with its norms and without, 300×300, one image.

    python benchmarks/folding.py [--threads 2]

The article's question about the "deploy" network. In turns: torch eager with norms, folded, folded
in channels-last memory, and the ONNX file that Flyweight writes, which is always folded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import write_result

from flyweight.compression.fold import fold
from flyweight.evaluation.latency import median_milliseconds
from flyweight.export.onnx import export_onnx
from flyweight.models.detectors import Detector, build
from flyweight.runtime.load import open_session


def main() -> None:
    """Measure, print and write `results/folding.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    detector = build("mobilenet_ssd300", classes=[f"class {index}" for index in range(20)]).eval()
    randomise_norms(detector)
    folded = fold(detector)
    last = fold(detector).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (1, 300, 300, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(detector, Path(folder) / "folded.onnx")
        session = open_session(Path(folder) / "folded.onnx", threads=options.threads)
        sides: dict[str, Callable[[], Any]] = {
            "torch, with BatchNorm": runner(detector, images),
            "torch, folded": runner(folded, images),
            "torch, folded, channels-last": runner(last, images),
            "ONNX Runtime, folded": lambda: session.run(images.numpy()),
        }
        times = median_milliseconds(sides, repeats=options.rounds)
    with torch.inference_mode():
        before, after = detector(images), folded(images)
    result = {
        "model": "mobilenet_ssd300",
        "threads": options.threads,
        "ms": {name: round(value, 2) for name, value in times.items()},
        "largest_box_difference_px": float((before[0] - after[0]).abs().max()),
        "largest_score_difference": float((before[1] - after[1]).abs().max()),
    }
    print(json.dumps(result, indent=2))
    print(write_result("folding", result))


def randomise_norms(detector: Detector) -> None:
    """Statistics as a trained network has them: those of a fresh one fold into nothing."""
    for layer in detector.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.7, 1.3)


def runner(detector: Detector, images: torch.Tensor) -> Callable[[], Any]:
    """A call of the detector without gradients."""

    def run() -> Any:
        with torch.inference_mode():
            return detector(images)

    return run


if __name__ == "__main__":
    main()
