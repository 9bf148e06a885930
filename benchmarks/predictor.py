"""From a JPEG file to detections: Flyweight's exported files beside torchvision in eager mode.

Both sides have the same weights: torchvision's `ssdlite320_mobilenet_v3_large` of 91 classes,
random but normalised, its class scores scaled so that a realistic number of detections comes out.
They run from the same 640x480 JPEG, with the same threads, taking turns in one process.

    python benchmarks/predictor.py [--threads 2] [--rounds 60] [--out NAME]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from machine import write_result
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_image

from flyweight.core.detections import Detections
from flyweight.core.image import write_image
from flyweight.core.manifest import Thresholds
from flyweight.data.formats import open_dataset
from flyweight.data.records import DetectionDataset
from flyweight.data.scenes import draw_scene, save_scenes
from flyweight.evaluation.latency import median_milliseconds
from flyweight.export.export import export
from flyweight.models.detectors import Detector, build
from flyweight.models.detectors.torchvision_weights import load_torchvision_weights
from flyweight.runtime.load import load_predictor

SCORE = 0.05
CLASSES = 90
DETECTIONS = 40
SIZE_HW = (480, 640)
INPUT_HW = (320, 320)

STARTUP = """
import json, re, sys, time
start = time.perf_counter()
import flyweight
from flyweight.runtime.load import load_predictor
predictor = load_predictor(sys.argv[1], threads=int(sys.argv[3]))
opened = time.perf_counter() - start
predictor.predict(sys.argv[2])
# Of this program alone: getrusage would count the memory of the one that started it, too.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024 / 1e6
print(json.dumps({"seconds": opened, "peak_mb": peak, "torch": "torch" in sys.modules}))
"""


def main() -> None:
    """Run, print and write `results/predictor.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", default="predictor")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), threads=options.threads, rounds=options.rounds)
    print(json.dumps(result, indent=2))
    print(write_result(options.out, result))


def measure(folder: Path, *, threads: int, rounds: int) -> dict[str, Any]:
    """Export, compare, time; everything that the JSON file says but the machine."""
    picture = folder / "scene.jpg"
    write_image(picture, draw_scene(7, size_hw=SIZE_HW)[0])
    save_scenes(folder / "scenes", train=40, val=1, test=1, seed=0)
    reference = random_torchvision(picture)
    files = export_files(converted(reference), open_dataset(folder / "scenes", "train"), folder)
    sides: dict[str, Callable[[], Any]] = {
        "torchvision eager": lambda: torchvision_from_file(reference, picture)
    }
    networks: dict[str, Callable[[], Any]] = {}
    pixels = None
    for name, path in files.items():
        predictor = load_predictor(path, threads=threads)
        pixels = predictor.preprocessing.apply(draw_scene(7, size_hw=SIZE_HW)[0])[0][None]
        sides[name] = lambda predictor=predictor: predictor.predict(picture, score=SCORE)
        networks[name] = lambda session=predictor.session, x=pixels: session.run(x)
    # Random weights amplify a rounded pixel beyond measure, and torchvision resizes in float. So
    # that what is compared is the network and its post-processing, the picture is of input size.
    small = folder / "small.png"
    write_image(small, draw_scene(7, size_hw=INPUT_HW)[0])
    expected = as_detections(torchvision_from_file(reference, small))
    rows = {}
    times = median_milliseconds(sides, repeats=rounds)
    bare = median_milliseconds(networks, repeats=rounds)
    for name, milliseconds in times.items():
        rows[name] = {"end_to_end_ms": round(milliseconds, 2)}
        if name in bare:
            found = load_predictor(files[name], threads=threads).predict(small, score=SCORE)
            rows[name] |= {
                "network_ms": round(bare[name], 2),
                "times_torchvision": round(times["torchvision eager"] / milliseconds, 2),
                "detections": len(found),
                "largest_difference": difference(expected, found),
                "startup": startup(files[name], picture, threads),
            }
    return {
        "what": "640x480 JPEG file to detections at score 0.05, batch 1, median milliseconds",
        "threads": threads,
        "rounds": rounds,
        "torchvision_detections": len(expected),
        "rows": rows,
    }


def random_torchvision(picture: Path) -> nn.Module:
    """torchvision's SSDlite with weights that are random, but behave."""
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        score_thresh=SCORE,
        nms_thresh=0.55,
        topk_candidates=300,
        detections_per_img=300,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
        elif isinstance(module, nn.Conv2d):
            # torchvision's own start is so small that BatchNorm's epsilon would drown the picture.
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    scenes = [torch.from_numpy(draw_scene(seed)[0]).permute(2, 0, 1) / 255 for seed in range(4)]
    with torch.no_grad():
        images = model.transform(scenes)[0].tensors
        # Untrained statistics would let activations shrink to nothing layer by layer.
        model.train()
        for _ in range(8):
            model.head(list(model.backbone(images).values()))
        model.eval()
        # Random layers under BatchNorm are chaotic: half a grey level on the way in would be
        # another picture on the way out. With a little less gain they are as steady as trained.
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.mul_(1.4)
        scale_heads(model, picture)
    return model


def scale_heads(model: nn.Module, picture: Path) -> None:
    """Box deltas of deviation 1, and about DETECTIONS scores above the threshold."""
    images = model.transform([decode_image(str(picture), ImageReadMode.RGB) / 255])[0].tensors
    boxes = model.head.regression_head
    gain = 1 / boxes(list(model.backbone(images).values())).std()
    for level in boxes.module_list:
        level[1].weight.mul_(gain)
    head = model.head.classification_head
    outputs = [level[1] for level in head.module_list]

    def logits() -> Tensor:
        return head(list(model.backbone(images).values()))

    gain = 1.2 / logits().std()
    for output in outputs:
        output.weight.mul_(gain)
    raw = logits()[0]
    low, high = 0.0, 30.0
    for _ in range(40):
        background = (low + high) / 2
        shifted = raw.clone()
        shifted[:, 0] += background
        above = int((shifted.softmax(-1)[:, 1:] > SCORE).sum())
        low, high = (background, high) if above > DETECTIONS else (low, background)
    for output in outputs:
        output.bias.view(-1, CLASSES + 1)[:, 0] += background


def converted(reference: nn.Module) -> Detector:
    """Flyweight's detector with the reference's weights and thresholds."""
    detector = build(
        "ssdlite320_mobilenet_v3_large",
        classes=[f"class {index}" for index in range(CLASSES)],
        thresholds=Thresholds(score=0.01, iou=0.55, candidates_per_class=300, max_detections=300),
    )
    load_torchvision_weights(reference.state_dict(), detector)
    return detector.eval()


def export_files(detector: Detector, scenes: DetectionDataset, out: Path) -> dict[str, Path]:
    """The exported files by what they are called in the result."""
    fp32 = export(detector, ["onnx", "openvino"], out)
    # Random weights find nothing: AP says nothing here, only the time does.
    int8 = export(detector, ["onnx", "openvino"], out, precision="int8", calibration=scenes)
    names = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
    return {f"{names[each.format]} {each.precision}": each.path for each in [*fp32, *int8]}


@torch.inference_mode()
def torchvision_from_file(model: nn.Module, picture: Path) -> dict[str, Tensor]:
    """What torchvision's documentation does: decode, scale to 0..1, call the model."""
    image = decode_image(str(picture), ImageReadMode.RGB) / 255
    found: dict[str, Tensor] = model([image])[0]
    return found


def as_detections(found: dict[str, Tensor]) -> Detections:
    """torchvision's answer; its labels count from 1."""
    return Detections(found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy() - 1)


def difference(expected: Detections, found: Detections) -> dict[str, Any]:
    """How far each expected detection is from its counterpart: pixels of the picture, score.

    Detections within 0.005 of the threshold may be on one side only: they are counted apart.
    """
    clear = [index for index in range(len(expected)) if expected.scores[index] > SCORE + 0.005]
    boxes, scores, missing = [0.0], [0.0], 0
    for index in clear:
        same = np.flatnonzero(found.labels == expected.labels[index])
        if len(same) == 0:
            missing += 1
            continue
        distances = np.abs(found.boxes_xyxy[same] - expected.boxes_xyxy[index]).max(axis=1)
        nearest = int(distances.argmin())
        boxes.append(float(distances[nearest]))
        scores.append(float(abs(found.scores[same[nearest]] - expected.scores[index])))
    return {
        "compared": len(clear),
        "missing": missing,
        "box_px": round(max(boxes), 4),
        "score": round(max(scores), 5),
    }


def startup(path: Path, picture: Path, threads: int, *, runs: int = 5) -> dict[str, Any]:
    """Import and opening in a fresh interpreter, and the memory it has taken after one picture."""
    command = [sys.executable, "-c", STARTUP, str(path), str(picture), str(threads)]
    outputs = [
        json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        for _ in range(runs)
    ]
    return {
        "import_and_open_s": round(statistics.median(each["seconds"] for each in outputs), 3),
        "peak_mb": round(statistics.median(each["peak_mb"] for each in outputs), 1),
        "loads_torch": any(each["torch"] for each in outputs),
    }


if __name__ == "__main__":
    main()
