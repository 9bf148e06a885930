"""A trained detector at half its MACs and in int8: `flyweight compress`, measured.

    python benchmarks/compression.py DATA MODEL [DATA MODEL ...] [--out runs/compression]

Runs every stage for each data set and its trained model; what is in `--out` is not made again, but
all is measured anew. Writes `results/compression.json` and the figures of `docs/compression.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import write_result

DOCS = Path(__file__).parents[1] / "docs" / "compression.md"
EPOCHS = {"bccd": 30, "cards": 20}
DEFAULT_EPOCHS = 30
QAT_EPOCHS = 6
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"


def main() -> None:
    """Compress and measure; write both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", nargs="+", type=Path, metavar="DATA MODEL")
    parser.add_argument("--out", type=Path, default=Path("runs/compression"))
    options = parser.parse_args()
    pairs = list(zip(options.pairs[::2], options.pairs[1::2], strict=True))
    ledgers = {data.name: compress(data, model, options.out / data.name) for data, model in pairs}
    print(write_result("compression", {"ledgers": ledgers}))
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    tables = "\n".join(table(name, rows) for name, rows in ledgers.items())
    DOCS.write_text(before + BEGIN + tables + END + after, encoding="utf-8")
    print(DOCS)


def compress(data: Path, model: Path, out: Path) -> list[dict[str, Any]]:
    """The ledger of one model."""
    words = [sys.executable, "-m", "flyweight", "compress", model, "--data", data, "--out", out]
    words += ["--prune", "0.5", "--fine-tune", EPOCHS.get(data.name, DEFAULT_EPOCHS)]
    words += ["--distill", model, "--fold", "--qat", QAT_EPOCHS, "--quantize", "int8", "--json"]
    done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, check=True, text=True)
    ledger: list[dict[str, Any]] = json.loads(done.stdout)["ledger"]
    return ledger


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """A ledger as Markdown."""
    runtimes = sorted({runtime for row in rows for runtime in row["runtimes"]})
    titles = ["stage", "AP", "against the start", "AP50", "M parameters", "MMACs", "MB"]
    titles += [f"ms, {runtime}" for runtime in runtimes]
    lines = [f"`{name}`:", "", f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        gain = row.get("difference", {}).get("AP")
        cells = [
            row["stage"],
            f"{100 * row['AP']:.1f}",
            ""
            if gain is None
            else "{value:+.1f} ({low:+.1f} to {high:+.1f})".format(
                **{end: 100 * points for end, points in gain.items()}
            ),
            f"{100 * row['AP50']:.1f}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['macs'] / 1e6:.0f}",
            f"{row['mb']:.1f}",
        ]
        cells += [f"{row['runtimes'].get(each, float('nan')):.1f}" for each in runtimes]
        lines.append(f"| {' | '.join(cells)} |".replace("nan", "–"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
