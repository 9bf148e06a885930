"""Run an example on the golden pictures and compare what it finds.

    python examples/golden/check.py build/cpp/detect
    python examples/golden/check.py node examples/javascript/detect.js
    python examples/golden/check.py --model FILE python examples/python/detect.py

The command is called with MODEL PICTURE SCORE INPUT and prints one JSON object; where it writes the
network's input to the file INPUT, that is compared too. Needs no more than numpy. Exit status 1
where something is further away than `golden.json` allows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, help="the golden detector in another format")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the example")
    options = parser.parse_args()
    golden = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    model = options.model or GOLDEN / next(iter(golden["models"]))
    wrong = 0
    for picture in golden["pictures"]:
        faults = check_picture(options.command, model, picture, golden)
        found = len(picture["detections"])
        print(f"{picture['file']}: " + ("; ".join(faults) or f"{found} detections as expected"))
        wrong += bool(faults)
    return 1 if wrong else 0


def check_picture(
    command: list[str], model: Path, picture: dict[str, Any], golden: dict[str, Any]
) -> list[str]:
    """What is wrong with the output of `command` for one picture; nothing where it is right."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "input"
        arguments = [model, GOLDEN / picture["file"], golden["score"], written]
        ran = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
        if ran.returncode != 0:
            return [f"exit status {ran.returncode}: {ran.stderr.strip()[-500:]}"]
        found = json.loads(ran.stdout)["detections"]
        faults = compare(found, picture["detections"], tolerance_of(model, golden))
        if written.is_file():
            pixels = np.fromfile(written, dtype=np.uint8)
            faults += compare_input(pixels, Path(picture["file"]).stem, golden)
    return faults


def tolerance_of(model: Path, golden: dict[str, Any]) -> dict[str, float]:
    """What `model` may be off; that of the first golden model where it is none of them."""
    models: dict[str, dict[str, float]] = golden["models"]
    return models.get(model.name, next(iter(models.values())))


def compare(
    found: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: dict[str, float]
) -> list[str]:
    """Detections beside the golden ones, both sorted by score, boxes in pixels of the picture."""
    labels = [[each["label"] for each in side] for side in (found, expected)]
    if labels[0] != labels[1]:
        return [f"found {labels[0]}, expected {labels[1]}"]
    faults = []
    for key, limit in (("box_xyxy", tolerance["box_pixels"]), ("score", tolerance["score"])):
        values = [np.array([each[key] for each in side]) for side in (found, expected)]
        error = float(np.abs(values[0] - values[1]).max(initial=0))
        if not error <= limit:
            faults.append(f"{key} differs by {error:.3g}, allowed {limit:g}")
    return faults


def compare_input(pixels: np.ndarray, name: str, golden: dict[str, Any]) -> list[str]:
    """The network's input, uint8 `[h, w, 3]` flat, beside the golden one."""
    with np.load(GOLDEN / "dense.npz") as dense:
        expected = dense[f"{name}_input"].ravel()
    if pixels.shape != expected.shape:
        return [f"the input has {pixels.size} bytes, expected {expected.size}"]
    levels = int(np.abs(pixels.astype(int) - expected).max())
    limit = golden["input_levels"]
    return [f"the input differs by {levels} levels, allowed {limit}"] if levels > limit else []


if __name__ == "__main__":
    sys.exit(main())
