"""Every backbone under every head: built, trained a step, saved, reloaded, folded, exported.

    python benchmarks/compositions.py [--backbones ...] [--heads ...]

Writes `results/compositions.json` and the table in `docs/compositions.md`. Networks are narrow and
inputs small, so that a pair takes seconds: what is shown is that the parts fit, not how good they
are. Pairs that are in the file already and are not named are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from flyweight.compression.fold import fold, unfolded_norms
from flyweight.core.errors import FlyweightError
from flyweight.export.export import export
from flyweight.models.backbones import BACKBONES
from flyweight.models.detectors import Detector, Targets, build, load, save

HEADS = ("ssdlite", "ssd", "retinanet", "yolov3", "yolov4", "faster_rcnn")
SIZE = 96
RESULT = Path(__file__).parent / "results" / "compositions.json"
TABLE = Path(__file__).parents[1] / "docs" / "compositions.md"


def check_pair(head: str, backbone: str, *, exported: bool = True) -> dict[str, Any]:
    """Put a pair through everything; raises where something does not hold."""
    torch.manual_seed(0)
    detector = build(head, backbone=backbone, classes=["a", "b"], size=SIZE, width=_width(backbone))
    params = sum(each.numel() for each in detector.parameters())
    _train_a_step(detector)
    detector.eval()
    images = torch.randint(0, 256, (1, SIZE, SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        before = detector(images)
        folded = fold(detector)
        after = folded(images)
    with tempfile.TemporaryDirectory() as folder:
        save(detector, Path(folder) / "model.safetensors")
        again = load(Path(folder) / "model.safetensors")
        with torch.no_grad():
            for mine, other in zip(before, again(images), strict=True):
                torch.testing.assert_close(mine, other)
        save(folded, Path(folder) / "folded.safetensors")
        load(Path(folder) / "folded.safetensors")
        row: dict[str, Any] = {"head": head, "backbone": backbone, "params": params}
        row["unfolded_norms"] = len(unfolded_norms(folded))
        if head != "faster_rcnn":  # its rows are ordered by score: equal to rounding, not in place
            torch.testing.assert_close(after[0], before[0], rtol=1e-3, atol=0.05)
            torch.testing.assert_close(after[1], before[1], rtol=1e-3, atol=1e-4)
        if exported:
            [file] = export(detector, ["onnx"], Path(folder) / "exported")
            row["max_box_error"] = round(file.max_box_error, 6)
            row["max_score_error"] = round(file.max_score_error, 8)
    return row


def _width(backbone: str) -> float:
    """As narrow as a backbone's groups of channels allow."""
    return 0.5 if backbone.startswith(("shufflenet", "snet")) else 0.25


def _train_a_step(detector: Detector) -> None:
    """A step on two pictures; every weight must get a gradient."""
    detector.train()
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    boxes = [torch.tensor([[10.0, 12, 70, 80]]), torch.tensor([[30.0, 20, 60, 50]])]
    targets = Targets.from_lists(boxes, [torch.tensor([0]), torch.tensor([1])])
    total = torch.stack(list(detector.loss(images, targets).values())).sum()
    total.backward()
    missing = [name for name, each in detector.named_parameters() if each.grad is None]
    if missing:
        raise AssertionError(f"no gradient for {missing[:3]}")
    torch.optim.SGD(detector.parameters(), lr=1e-4).step()


def run(heads: Iterable[str], backbones: Iterable[str], rows: dict[str, Any]) -> None:
    """Check the pairs and add their rows, those that fail with the reason."""
    for backbone in backbones:
        for head in heads:
            try:
                row = check_pair(head, backbone)
            except (FlyweightError, AssertionError, RuntimeError) as error:
                row = {"head": head, "backbone": backbone, "error": str(error).split("\n")[0]}
            rows[f"{head}/{backbone}"] = row
            print(json.dumps(row), flush=True)
            RESULT.write_text(json.dumps(rows, indent=1) + "\n")


def table(rows: dict[str, Any]) -> str:
    """The rows as Markdown: parameters of the tested network, or what is in the way."""
    lines = [
        "# Which parts fit",
        "",
        "Written by `benchmarks/compositions.py`. Each cell is a pair that was built at"
        f" {SIZE}×{SIZE} pixels and a quarter of the channels (ShuffleNets and SNets: half),"
        " trained a step, saved, reloaded, folded (same outputs) and exported to ONNX (same"
        " outputs); the number is its parameters in thousands.",
        "",
        "| backbone | " + " | ".join(HEADS) + " |",
        "|---|" + "---:|" * len(HEADS),
    ]
    for backbone in BACKBONES:
        cells = []
        for head in HEADS:
            row = rows.get(f"{head}/{backbone}")
            if row is None:
                cells.append("not run")
            elif "error" in row:
                cells.append(f"no: {row['error']}")
            else:
                cells.append(f"{row['params'] / 1e3:,.0f}")
        lines.append(f"| {backbone} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is asked for, write both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="torch")
    rows = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    run(options.heads, options.backbones, rows)
    TABLE.write_text(table(rows))
    print(TABLE)


if __name__ == "__main__":
    main()
