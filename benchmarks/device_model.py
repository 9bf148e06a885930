"""How well a calibrated device model predicts networks that it has not seen.

    python benchmarks/device_model.py export WORK
    python benchmarks/device_model.py calibrate WORK --runtime openvino [--seconds 90]
    python benchmarks/device_model.py measure WORK --runtime openvino [--seconds 60]
    python benchmarks/device_model.py report WORK

Twelve detectors of different backbones, heads, widths and sizes are exported, timed as `flyweight
bench` times them, and predicted from their operations and a calibration of this machine.
`calibrate` and `measure` go on where they ended, so that both can be spread over the hours of a
machine that others use; `report` writes `results/device_model.json`. WORK keeps the files in
between.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import write_result
from torch import nn

from flyweight.export.onnx import export_onnx
from flyweight.models.detectors import Detector, build
from flyweight.profiling.calibration import calibrate, measure_drift
from flyweight.profiling.device_model import DeviceModel
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.probe_runs import RUNTIMES
from flyweight.profiling.stopwatch import time_in_turns
from flyweight.profiling.trace import trace_detector
from flyweight.runtime.load import open_session

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "SSDlite MobileNetV1 320": ("ssdlite320_mobilenet_v1", {}),
    "SSDlite MobileNetV2 ×0.5 320": ("ssdlite320_mobilenet_v2", {"width": 0.5}),
    "SSDlite MobileNetV3-Large 320": ("ssdlite320_mobilenet_v3_large", {}),
    "SSDlite MobileNetV3-Small 224": ("ssdlite320_mobilenet_v3_small", {"size": 224}),
    "MobileNet-SSD 300": ("mobilenet_ssd300", {}),
    "SSDlite ShuffleNetV2 320": ("ssdlite", {"backbone": "shufflenet_v2", "size": 320}),
    "SSDlite SqueezeNet 1.1 320": ("ssdlite", {"backbone": "squeezenet1_1", "size": 320}),
    "SSD ResNet-18 256": ("ssd", {"backbone": "resnet18", "size": 256}),
    "RetinaNet SNet 224": ("retinanet_snet", {}),
    "RetinaNet MobileNetV2 ×0.5 256": (
        "retinanet",
        {"backbone": "mobilenet_v2", "size": 256, "width": 0.5},
    ),
    "YOLOv3 light 320": ("yolov3", {"size": 320}),
    "YOLOv4 light GhostNet 256": ("yolov4", {"backbone": "ghostnet", "size": 256}),
}
THREADS = 2
ROUNDS = 8
DRIFT_PROBES = 16


def main() -> None:
    """One step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("export", "calibrate", "measure", "report"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()
    calibration = options.work / f"calibration-{options.runtime}.json"
    if options.step == "export":
        export_networks(options.work)
    elif options.step == "calibrate":
        model = calibrate(
            calibration, runtime=options.runtime, threads=THREADS, seconds=options.seconds
        )
        print(f"{options.runtime}: {len(model.measured)} probes")
    elif options.step == "measure":
        measure(options.work, options.runtime, options.seconds)
    else:
        result = report(options.work)
        print(json.dumps(result, indent=2, ensure_ascii=False))
        print(write_result("device_model", result))


def detector_of(name: str) -> Detector:
    """The detector with norms as trained networks have them: fresh ones are left out of files."""
    preset, changes = NETWORKS[name]
    torch.manual_seed(0)
    detector = build(preset, classes=[f"class {index}" for index in range(20)], **changes).eval()
    for layer in detector.modules():
        if isinstance(layer, nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, 0, 0.1)
    return detector


def export_networks(work: Path) -> None:
    """Write those files that are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        path = work / f"{name}.onnx"
        if not path.exists():
            export_onnx(detector_of(name), path)
            print(path)


def measure(work: Path, runtime: str, seconds: float) -> None:
    """Time all networks in turns, after a few probes again: one visit.

    The device's own speed drifts between visits (a virtual machine has neighbours); how much, the
    probes tell, without a look at the networks.
    """
    model = DeviceModel.load(work / f"calibration-{runtime}.json")
    kept = work / f"visits-{runtime}.json"
    visits = json.loads(kept.read_text()) if kept.exists() else []
    drift = measure_drift(model, count=DRIFT_PROBES)
    calls = {name: opened(work, name, runtime) for name in NETWORKS}
    timings = time_in_turns(calls, rounds=ROUNDS, seconds=seconds)
    times = {name: each.milliseconds for name, each in timings.items() if not each.disturbed}
    visits.append({"drift": drift, "milliseconds": times})
    print(f"{runtime}: drift {drift:.3f}, {len(times)} networks undisturbed")
    kept.write_text(json.dumps(visits, ensure_ascii=False))


def opened(work: Path, name: str, runtime: str) -> Callable[[], object]:
    """One run of a network, as `flyweight bench` runs it."""
    if runtime != "torch":
        session = open_session(work / f"{name}.onnx", threads=THREADS, runtime=runtime)
        noise = np.random.default_rng(0).integers(0, 256, (1, *session.size_hw, 3), dtype=np.uint8)
        return lambda: session.run(noise)
    torch.set_num_threads(THREADS)
    detector = detector_of(name).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (1, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)

    def run() -> object:
        with torch.inference_mode():
            return detector(images)

    return run


@cache
def cost_of(name: str, folded: bool) -> NetworkCost:
    """The operations of a network."""
    return trace_detector(detector_of(name), folded=folded)


def report(work: Path) -> dict[str, Any]:
    """Predicted against measured, for every runtime that has both."""
    result: dict[str, Any] = {
        "what": "milliseconds of one run of networks that the calibration has not seen",
        "threads": THREADS,
        "drift": "what probes took at a visit, relative to when they were calibrated",
    }
    for runtime in RUNTIMES:
        kept, calibration = work / f"visits-{runtime}.json", work / f"calibration-{runtime}.json"
        if not kept.exists() or not calibration.exists():
            continue
        model, visits = DeviceModel.load(calibration), json.loads(kept.read_text())
        rows = {}
        for name in NETWORKS:
            seen = [visit for visit in visits if name in visit["milliseconds"]]
            if not seen:
                continue
            cost = cost_of(name, runtime != "torch")
            predicted = model.predict(cost).milliseconds
            measured = median(visit["milliseconds"][name] for visit in seen)
            steady = median(visit["milliseconds"][name] / visit["drift"] for visit in seen)
            rows[name] = {
                "visits": len(seen),
                "measured_ms": round(measured, 2),
                "without_drift_ms": round(steady, 2),
                "predicted_ms": round(predicted, 2),
                "error": round(predicted / measured - 1, 3),
                "error_without_drift": round(predicted / steady - 1, 3),
                "mmacs": round(cost.macs / 1e6, 1),
            }
        result[runtime] = {"probes": len(model.measured)}
        result[runtime]["visits"] = [
            {
                "drift": round(visit["drift"], 3),
                "networks": len(visit["milliseconds"]),
                "median_absolute_error": round(
                    median(
                        abs(rows[name]["predicted_ms"] / measured - 1)
                        for name, measured in visit["milliseconds"].items()
                    ),
                    3,
                ),
            }
            for visit in visits
            if visit["milliseconds"]
        ]
        for figure in ("error", "error_without_drift"):
            errors = [abs(row[figure]) for row in rows.values()]
            result[runtime][f"median_absolute_{figure}"] = round(median(errors), 3)
            result[runtime][f"largest_absolute_{figure}"] = max(errors)
        result[runtime]["networks"] = rows
    return result


if __name__ == "__main__":
    main()
