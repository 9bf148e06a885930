"""Where each layer stands under the machine's roofline (Williams, Waterman & Patterson 2009).

A layer that does I operations a byte can reach `min(peak, bandwidth × I)`. How far it stays below
says whether a better kernel would help; on which side of the ridge it lies, whether fewer
operations or fewer bytes would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyweight.core.errors import CheckError, InputError
from flyweight.profiling.ceilings import Ceilings
from flyweight.profiling.fusion import fused_into
from flyweight.profiling.operation import FLOAT_BYTES, NetworkCost
from flyweight.reports.charts import GRID, INK, PALETTE, SOFT, STYLE, as_svg

COMPUTE, MEMORY = "compute", "memory"
TITLE = "Roofline"
# A ceiling this far below the one in question, of arithmetic that is emulated, tells nothing.
LEAST_SHOWN = 0.1
# Winograd's F(2×2, 3×3) does a convolution with so many times fewer products than are counted
# (Lavin & Gray 2016, section 4.1); what is further above the roof was not measured on this machine.
WINOGRAD = 2.25
ATTEMPTS = 3
# for those who cannot tell colours apart
MARKS = "osD^vPX*"


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
        """Reached of attainable; above 1 it is over the roof (`why_above`)."""
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


def measured_roofline(
    cost: NetworkCost,
    milliseconds: Mapping[str, float],
    measure: Callable[[], Ceilings],
    *,
    runtime: str,
) -> tuple[Ceilings, list[RooflinePoint]]:
    """Layers under ceilings that none of them disproves: those are measured again if one does.

    Args:
        cost: of the network, priced for float32.
        milliseconds: by layer (`LayerTimes.by_layer`).
        measure: measures the machine's ceilings; limits add up to the highest of all attempts.
        runtime: decides what runs inside what.

    Raises:
        CheckError: a layer did more arithmetic than the machine was found to be able to.
        InputError: nothing that was measured is a layer of the network.
    """
    ceilings = measure()
    for attempt in range(ATTEMPTS):
        if attempt:
            ceilings = ceilings.higher(measure())
        points = roofline(cost, milliseconds, ceilings, runtime=runtime)
        if all(point.gflops <= ceilings.gflops["fp32"] for point in points):
            return ceilings, points
    fastest = max(points, key=lambda point: point.gflops)
    if fastest.gflops > WINOGRAD * ceilings.gflops["fp32"]:
        raise CheckError(
            f"{fastest.layer} reached {fastest.gflops:.0f} GFLOP/s, the machine's limit was "
            f"measured as {ceilings.gflops['fp32']:.1f}: other processes used the cores; stop "
            "them, or wait, and measure again"
        )
    return ceilings, points


def why_above(points: Sequence[RooflinePoint]) -> list[str]:
    """A sentence on the layers above each side of the roof; none if there are none."""
    reasons = {
        MEMORY: "a cache held what is counted as memory",
        COMPUTE: "their kernels need fewer products than are counted (Winograd), or are better "
        "than those of the matrix product that was measured",
    }
    sentences = []
    for bound, reason in reasons.items():
        above = [point for point in points if point.bound == bound and point.share > 1]
        if above:
            highest = max(above, key=lambda point: point.share)
            layers = "1 layer is" if len(above) == 1 else f"{len(above)} layers are"
            sentences.append(
                f"{layers} above the roof of {'memory' if bound == MEMORY else 'arithmetic'}, "
                f"{highest.layer} the most ({100 * highest.share:.0f} %): {reason}."
            )
    return sentences


def roofline_chart(
    points: Sequence[RooflinePoint], ceilings: Ceilings, *, precision: str = "fp32", named: int = 6
) -> str:
    """Layers under the roof on logarithmic axes, as an `<svg>`.

    Area is time; the longest layers have their place among them as a number, as in the table of
    `longest`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ridge = ceilings.ridge(precision)
    low = min(0.1, *(point.intensity for point in points)) / 1.5
    high = max(4 * ridge, *(1.5 * point.intensity for point in points))
    with rc_context(STYLE):
        figure = Figure(figsize=(8.0, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        roof = [ceilings.attainable_gflops(x, precision) for x in (low, ridge, high)]
        axes.plot([low, ridge, high], roof, color=INK, linewidth=1.6)
        axes.axvline(ridge, color=GRID, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, reached in shown_limits(ceilings, precision).items():
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
        _draw_layers(axes, points, named=named)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_xlim(low, high)
        axes.set_title(TITLE, loc="left", fontsize=11, fontweight="bold", pad=10)
        axes.set_xlabel("operations a byte")
        axes.set_ylabel("GFLOP/s")
        return as_svg(figure, TITLE)


def _draw_layers(axes: Any, points: Sequence[RooflinePoint], *, named: int) -> None:
    """A mark a layer, its shape and colour by kind; numbers, joined where they would collide."""
    ordered = longest(points, len(points))
    most = ordered[0].milliseconds
    kinds = list(dict.fromkeys(point.kind for point in ordered))
    for place, kind in enumerate(kinds):
        of_kind = [point for point in ordered if point.kind == kind]
        axes.scatter(
            [point.intensity for point in of_kind], [point.gflops for point in of_kind],
            s=[14 + 190 * point.milliseconds / most for point in of_kind], alpha=0.7,
            color=PALETTE[place % len(PALETTE)], marker=MARKS[place % len(MARKS)],
            edgecolors="white", linewidths=0.6, label=kind,
        )  # fmt: skip
    groups: list[tuple[RooflinePoint, list[int]]] = []
    for place, point in enumerate(ordered[:named], start=1):
        near = (numbers for first, numbers in groups if _collide(first, point))
        if (numbers := next(near, None)) is None:
            groups.append((point, [place]))
        else:
            numbers.append(place)
    for point, numbers in groups:
        axes.annotate(
            ", ".join(map(str, numbers)), (point.intensity, point.gflops), fontsize=9, color=INK,
            ha="center", va="top", textcoords="offset points", xytext=(0, -9),
        )  # fmt: skip
    legend = axes.legend(fontsize=9, loc="lower right")
    for handle in legend.legend_handles:
        handle.set_sizes([45])


def _collide(one: RooflinePoint, other: RooflinePoint) -> bool:
    across = abs(math.log10(one.intensity / other.intensity))
    return across < 0.12 and abs(math.log10(one.gflops / other.gflops)) < 0.2


def longest(points: Sequence[RooflinePoint], count: int) -> list[RooflinePoint]:
    """Those that take most time, the longest first."""
    return sorted(points, key=lambda point: -point.milliseconds)[:count]


def shown_limits(ceilings: Ceilings, precision: str = "fp32") -> dict[str, float]:
    """GFLOP/s by precision, without arithmetic that is only emulated."""
    least = LEAST_SHOWN * ceilings.gflops[precision]
    return {name: reached for name, reached in ceilings.gflops.items() if reached >= least}
