"""`docs/ablations.md`, of the figures that `ablations.py` measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

FIGURES = ("AP", "AP50", "AP75")

TAUGHT = """
## What to take from it

Written by hand, of the figures above.

- **Batches of 2 want GroupNorm**: BatchNorm loses there, in every seed, as Wu and He 2018
  (figure 1) found on ImageNet. At 16 images the two cannot be told apart here. More steps help
  a training from random weights: batch 2 with GroupNorm is the best of the four.
- **Box losses**: smooth L1, IoU, GIoU, DIoU and CIoU give the same AP within half a point or
  two; overlap losses gain a little AP50 and lose a little AP75. Boxes of blood cells are nearly
  square.
- **Mosaic costs AP in twenty epochs** on 205 pictures that all look alike: a quarter of the
  size is another task. It was made for hundreds of epochs, which nobody here has run.
- **The moving average costs AP in so short a training** (260 steps): it, and BatchNorm's
  statistics of momentum 0.03 under it, lag behind. `--set ema_decay=0` is worth a try where an
  epoch is few steps; over a hundred epochs this has not been measured.
- **A teacher's logits helped every student** that has only eight epochs, by one to four points;
  three seeds cannot say how much. A neck's features did not.
- **Soft-NMS with a Gaussian** gives half a point for nothing on crowded cells; DIoU-NMS gives
  nothing.
"""


def document(result: Mapping[str, Any]) -> str:
    """`docs/ablations.md`."""
    about = (
        f"Written by `benchmarks/ablations.py` on `{result['data']}` (205 training images). AP of "
        "the last epoch's weights on `val` (87 images), in points of 100: mean ± standard "
        "deviation over seeds. *Against its base* is the mean of the differences seed by seed "
        "with half its 95 % interval by Student's t; **only what is bold is more than chance in "
        "these runs**. With three seeds the interval is 2.5 times the standard deviation: most "
        "choices cannot be told apart here, and that is a result too."
    )
    setting = (
        f"{result['setting']}, its learning rate scaled by the root of the batch. A run takes two "
        "to five minutes of one core. Light, short trainings: what wins here is worth trying on "
        "your data first, not a law."
    )
    lines = [
        "# What each choice is worth",
        "",
        textwrap.fill(about, 110),
        "",
        textwrap.fill(setting, 110),
        "",
        "| | variant | seeds | AP | AP50 | AP75 | against its base |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [f"`{row['name']}`", row["says"], str(row["seeds"])]
        cells += [points(row[name]) for name in FIGURES]
        if not row["base"]:
            against = "base"
        elif row["base"] == "light":
            against = signed(row.get("difference"))
        else:
            against = f"{signed(row.get('difference'))} (to `{row['base']}`)"
        lines.append("| " + " | ".join([*cells, against]) + " |")
    lines += [
        "",
        "## NMS",
        "",
        "The base's weights with other suppression: no training differs, so the differences are of",
        "the suppression alone.",
        "",
        "| NMS | AP | AP50 | AP75 | against greedy |",
        "|---|---|---|---|---|",
    ]
    for row in result["nms"]:
        cells = [f"`{row['name']}`", *(points(row[name]) for name in FIGURES)]
        cells.append(signed(row["difference"]) if "difference" in row else "base")
        lines.append("| " + " | ".join(cells) + " |")
    if result["pruned"]:
        shares = list(result["pruned"][0]["AP"])
        lines += [
            "",
            "## Norms pulled to zero, then pruned",
            "",
            "By the scales of norms (`bn_scale`), without training on; shares of the MACs that",
            "stay.",
            "",
            "| trained as | seeds | " + " | ".join(f"AP at {share}" for share in shares) + " |",
            "|---|---|" + "---|" * len(shares),
        ]
        for row in result["pruned"]:
            cells = [f"`{row['name']}`", str(row["seeds"])]
            cells += [points(row["AP"][share]) for share in shares]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + TAUGHT


def points(figure: Mapping[str, float]) -> str:
    """`51.2 ± 0.4`"""
    return f"{100 * figure['mean']:.1f} ± {100 * figure['sd']:.1f}"


def signed(found: Mapping[str, Any] | None) -> str:
    """`+0.4 ± 0.9`, bold where the interval leaves out zero."""
    if found is None:
        return "-"
    if found["half"] is None:
        return f"{100 * found['mean']:+.1f}"
    text = f"{100 * found['mean']:+.1f} ± {100 * found['half']:.1f}"
    return f"**{text}**" if found["clear"] else text
