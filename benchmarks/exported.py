"""What exporting a trained checkpoint costs: errors against torch, AP on the test images.

    python benchmarks/exported.py runs/bccd/fit-0/best.safetensors ../shared/data/bccd

int8 is calibrated on `train` and judged on `val`; the AP here is that of `test`, which neither saw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from machine import write_result

from flyweight.core.image import read_image
from flyweight.data.formats import open_dataset
from flyweight.evaluation.evaluate import evaluate
from flyweight.export.export import export
from flyweight.export.parity import compare, reference_outputs
from flyweight.models.detectors import checkpoint
from flyweight.runtime.load import load_predictor

FORMATS = ["onnx", "openvino"]


def main() -> None:
    """Export, compare, measure, print and write `results/exported.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    detector = checkpoint.load(options.checkpoint)
    test = open_dataset(options.data, "test")
    inputs = [detector.preprocessing.apply(read_image(record.path))[0] for record in test.records]
    references = reference_outputs(detector, inputs)
    torch_ap = evaluate(detector, test).AP or 0.0
    rows: dict[str, Any] = {"torch fp32": {"AP": torch_ap}}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8"):
            data = {} if precision == "fp32" else {"data": options.data}
            for each in export(detector, FORMATS, folder, precision=precision, **data):
                predictor = load_predictor(each.path)
                parity = compare(
                    references, predictor.session, inputs, seen_only=precision == "int8"
                )
                ap = evaluate(predictor, test).AP or 0.0
                rows[f"{each.format} {precision}"] = {
                    "AP": ap,
                    "AP_loss_points": round(100 * (torch_ap - ap), 2),
                    "max_box_error_px": parity.max_box_error,
                    "max_score_error": parity.max_score_error,
                    "convolutions_in_float": len(each.kept_float),
                }
    result = {"model": detector.config.name, "images": len(test), "rows": rows}
    print(json.dumps(result, indent=2))
    print(write_result("exported", result))


if __name__ == "__main__":
    main()
