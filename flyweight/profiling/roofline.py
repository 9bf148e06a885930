"""Where each layer stands under the machine's roofline (Williams, Waterman & Patterson 2009).

A layer that does I operations a byte can reach `min(peak, bandwidth × I)`. How far it stays below
says whether a better kernel would help; on which side of the ridge it lies, whether fewer
operations or fewer bytes would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flyweight.core.errors import InputError
from flyweight.profiling.ceilings import Ceilings
from flyweight.profiling.fusion import fused_into
from flyweight.profiling.operation import FLOAT_BYTES, NetworkCost
from flyweight.reports.charts import GRID, INK, PALETTE, SOFT, STYLE, as_svg

COMPUTE, MEMORY = "compute", "memory"
TITLE = "Roofline"
# A ceiling this far below the one in question, of arithmetic that is emulated, tells nothing.
LEAST_SHOWN = 0.1


@dataclass(frozen=True)
class RooflinePoint:
    """One layer with what runs inside it.

    Attributes:
        layer: dotted path.
        kind: of its main operation; depthwise convolutions are one of their own.
        milliseconds: measured.
        operations: two a multiply-accumulate pair, and element-wise ones.
        moved_bytes: weights and activations read and written; between fused operations none.
        gflops: billions of operations a second that it reached.
        attainable_gflops: what its intensity allows on this machine.
        bound: `compute` or `memory`: which ceiling is over it.
    """

    layer: str
    kind: str
    milliseconds: float
    operations: int
    moved_bytes: int
    gflops: float
    attainable_gflops: float
    bound: str

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / max(self.moved_bytes, 1)

    @property
    def share(self) -> float:
        """Reached of attainable; above 1 where a cache holds what was counted as memory."""
        return self.gflops / self.attainable_gflops


def roofline(
    cost: NetworkCost,
    milliseconds: Mapping[str, float],
    ceilings: Ceilings,
    *,
    runtime: str,
    precision: str = "fp32",
) -> list[RooflinePoint]:
    """The layers of a network that were measured and that compute something, in their order.

    Args:
        cost: of the network, priced for float32.
        milliseconds: by layer (`LayerTimes.by_layer`).
        ceilings: of the machine that measured.
        runtime: decides what runs inside what.
        precision: of the run: `int8` moves a quarter of the bytes.

    Raises:
        InputError: nothing that was measured is a layer of the network.
    """
    width = {"fp32": 4, "bf16": 2, "int8": 1}[precision] / FLOAT_BYTES
    operations: dict[str, int] = {}
    moved: dict[str, int] = {}
    kinds: dict[str, str] = {}
    for index, head in enumerate(fused_into(cost, runtime=runtime)):
        each, layer = cost.operations[index], cost.operations[head].layer
        operations[layer] = operations.get(layer, 0) + 2 * each.macs + each.elementwise
        accessed = each.access_bytes
        if head != index:  # what it writes its head had counted; one input never was in memory
            accessed = each.read_bytes - FLOAT_BYTES * math.prod(each.input_shapes[0])
        moved[layer] = moved.get(layer, 0) + accessed
        main = cost.operations[head]
        kinds.setdefault(layer, f"{main.kind}, depthwise" if main.depthwise else main.kind)
    points = []
    for layer, done in operations.items():
        spent = milliseconds.get(layer, 0.0)
        if not done or spent <= 0:
            continue
        size = max(round(moved[layer] * width), 1)
        attainable = ceilings.attainable_gflops(done / size, precision)
        bound = COMPUTE if done / size >= ceilings.ridge(precision) else MEMORY
        points.append(
            RooflinePoint(
                layer, kinds[layer], spent, done, size, done / spent / 1e6, attainable, bound
            )
        )
    if not points:
        raise InputError(
            "no layer that was measured is one of the network",
            where=cost.name,
            fix="measure and trace the same detector",
        )
    return points


def roofline_chart(
    points: Sequence[RooflinePoint], ceilings: Ceilings, *, precision: str = "fp32", named: int = 6
) -> str:
    """Layers under the roof on logarithmic axes, as an `<svg>`; area is time, the longest named."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ridge = ceilings.ridge(precision)
    longest = sorted(points, key=lambda point: -point.milliseconds)
    low = min(0.1, *(point.intensity for point in points)) / 1.5
    high = max(4 * ridge, *(1.5 * point.intensity for point in points))
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.0), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        roof = [ceilings.attainable_gflops(x, precision) for x in (low, ridge, high)]
        axes.plot([low, ridge, high], roof, color=INK, linewidth=1.6)
        axes.axvline(ridge, color=GRID, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, reached in ceilings.gflops.items():
            if reached < LEAST_SHOWN * ceilings.gflops[precision]:
                continue
            if name != precision:
                axes.plot([reached / ceilings.bandwidth_gbs, high], [reached] * 2, color=GRID)
            axes.annotate(
                f"{name} {reached:.0f} GFLOP/s", (high, reached), fontsize=9, ha="right",
                color=INK if name == precision else SOFT, textcoords="offset points",
                xytext=(-4, 4),
            )  # fmt: skip
        middle = (low * ridge) ** 0.5
        axes.annotate(
            f"{ceilings.bandwidth_gbs:.1f} GB/s", (middle, middle * ceilings.bandwidth_gbs),
            color=INK, fontsize=9, ha="right", textcoords="offset points", xytext=(-8, 6),
        )  # fmt: skip
        for colour, kind in zip(PALETTE, _kinds(longest), strict=False):
            of_kind = [point for point in longest if point.kind == kind]
            axes.scatter(
                [point.intensity for point in of_kind], [point.gflops for point in of_kind],
                s=[12 + 900 * point.milliseconds / _total(points) for point in of_kind],
                color=colour, alpha=0.75, linewidths=0, label=kind,
            )  # fmt: skip
        for place, point in enumerate(longest[:named], start=1):
            axes.annotate(
                str(place), (point.intensity, point.gflops), fontsize=8, color=INK, ha="center",
                textcoords="offset points", xytext=(0, -15 - 9 * (place % 2)),
            )  # fmt: skip
        # names would cover each other: the longest layers are where the others of their size are
        lines = [
            f"{place}  {point.layer}  {point.milliseconds:.2f} ms, {100 * point.share:.0f}%"
            for place, point in enumerate(longest[:named], start=1)
        ]
        axes.annotate(
            "\n".join(lines), (1, 0), xycoords="axes fraction", fontsize=8, color=SOFT, ha="right",
            va="bottom", textcoords="offset points", xytext=(-6, 6),
        )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_xlim(low, high)
        axes.set_title(TITLE, loc="left", fontsize=11, fontweight="bold", pad=10)
        axes.set_xlabel("operations a byte")
        axes.set_ylabel("GFLOP/s")
        axes.legend(fontsize=9, loc="upper left", markerscale=0.6)
        return as_svg(figure, TITLE)


def _kinds(points: Sequence[RooflinePoint]) -> list[str]:
    return list(dict.fromkeys(point.kind for point in points))[: len(PALETTE)]


def _total(points: Sequence[RooflinePoint]) -> float:
    return sum(point.milliseconds for point in points)
