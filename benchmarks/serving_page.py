"""Write the figures of docs/serving.md from `results/serving.json`, between its two markers.

python benchmarks/serving_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from machine import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> None:
    """Replace what stands between the markers."""
    result = json.loads((RESULTS / "serving.json").read_text(encoding="utf-8"))
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    parts = {"speed": speed, "memory": memory}
    texts = ["\n".join(lines(result)) for name, lines in parts.items() if name in result]
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n\n".join(texts) + f"\n{END}{tail}", encoding="utf-8")


def speed(result: dict[str, Any]) -> list[str]:
    """A row a way, a column a number of clients."""
    found, machine = result["speed"], result["machine"]
    clients = sorted({row["clients"] for row in found["rows"]})
    lines = [
        f"{found['model']}, JPEGs of {found['picture_bytes'] / 1000:.0f} kB, one a request, "
        f"client and server on the same {machine['cores']} cores ({machine['cpu']}); "
        f"{found['wrong_or_lost']} answers wrong or lost "
        "(`benchmarks/serving.py`). Images a second; p50, p99 and CPU time of an image in ms:",
        "",
        "| workers × threads, batch, decoders | " + " | ".join(map(str, clients)) + " clients |",
        "|---|" + "---|" * len(clients),
    ]
    for way in dict.fromkeys(row["way"] for row in found["rows"]):
        own = {row["clients"]: row for row in found["rows"] if row["way"] == way}
        cells = [
            f"**{each['images_per_s']:.0f}** · {each['p50_ms']:.0f} · {each['p99_ms']:.0f} "
            f"· {each['cpu_ms']:.0f}"
            for each in (own[count] for count in clients)
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def memory(result: dict[str, Any]) -> list[str]:
    """A sentence on what stays."""
    found = result["memory"]
    return [
        f"**Memory** over {found['requests']:,} requests ({found['what']}; input "
        f"{found['input_hw'][0]} px, {found['clients']} clients): "
        f"{found['resident_mb_after_a_tenth']:.0f} MB after a tenth of them, "
        f"{found['resident_mb_at_the_end']:.0f} MB at the end, "
        f"{found['resident_mb_at_most']:.0f} MB at most; {found['wrong_or_lost']} answers wrong or "
        f"lost, {found['in_the_queue_afterwards']:.0f} pictures left in the queue."
    ]


if __name__ == "__main__":
    main()
