"""The head doctor: where a detector's AP goes when it is made int8, layer by layer.

First cheap signals of every layer, from a few pictures: its tensors' own SQNR, and the error of the
network's output with this layer alone in int8. Then AP, which is dear, of the whole network in
int8, of each part alone and of all but it, and of the layers that look worst alone. All AP are of
the same images, so each loss comes with its paired interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from flyweight.compression.onnx_layers import FLOAT_ACTIVATIONS, Layer, companions, layers_of
from flyweight.compression.quantise_onnx import Ranges, quantise_onnx, quantised_nodes
from flyweight.compression.sensitivity import OutputErrors, Sensitivity, find_sensitive
from flyweight.compression.tensor_noise import (
    TensorNoise,
    activation_noise,
    weight_noise,
    with_rounded,
)
from flyweight.evaluation.paired import Interval, compare_detections

if TYPE_CHECKING:
    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset

WORST = 6
# How many of the worst layers may be called guilty.
SUSPECTS = 12
# Of the scores: a layer that leaves less is blamed.
POOR_DB = 30.0
# Products that are larger than their sum by this have lost two bits before it.
CANCELLED = 4.0

Detect = Callable[[onnx.ModelProto], "list[Detections]"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class LayerFinding:
    """One layer under int8.

    Attributes:
        layer: the convolution.
        alone: the error of the network's output with this layer alone in int8.
        guilty: the tensor of the layer whose rounding harms the scores most; of suspects only.
        reasons: what is to blame, in words.
        loss: AP lost with this layer alone in int8, 0 to 1; None where nobody measured it.
    """

    layer: Layer
    alone: Sensitivity
    guilty: TensorNoise | None = None
    reasons: tuple[str, ...] = ()
    loss: Interval | None = None


@dataclass(frozen=True)
class GroupFinding:
    """A part of the network: AP lost with it alone in int8, and with all but it, 0 to 1."""

    group: str
    layers: int
    macs: int
    alone: Interval
    without: Interval


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        images: of how many AP is.
        AP: of the fp32 graph.
        loss: with every layer in int8.
        groups: the worst first.
        layers: every layer, the worst first.
    """

    images: int
    AP: float
    loss: Interval
    groups: tuple[GroupFinding, ...]
    layers: tuple[LayerFinding, ...]

    @property
    def guilty(self) -> list[LayerFinding]:
        """Layers that leave too little of the scores, or whose loss of AP is no chance."""
        return [
            each
            for each in self.layers[:SUSPECTS]
            if each.alone.sqnr_db < POOR_DB or (each.loss and each.loss.low > 0)
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "images": self.images,
            "AP": self.AP,
            "loss": asdict(self.loss),
            "groups": [asdict(each) for each in self.groups],
            "layers": [_layer_dict(each) for each in self.layers],
            "guilty": [each.layer.label for each in self.guilty],
        }


def examine(
    model: onnx.ModelProto,
    ranges: Ranges,
    pictures: Sequence[npt.NDArray[np.uint8]],
    *,
    detect: Detect,
    dataset: DetectionDataset,
    worst: int = WORST,
    say: Say = lambda line: None,
) -> Diagnosis:
    """Find out which layers and tensors cost AP in int8.

    Args:
        model: the fp32 graph of `flyweight.export.onnx.to_onnx`.
        ranges: of `calibrate`.
        pictures: uint8 `[1, H, W, 3]` each, for the cheap signals; 8 to 16 are enough.
        detect: what a graph finds in each image of `dataset`, in its order.
        dataset: with labels; not the pictures that `ranges` are from.
        worst: of how many layers alone AP is measured.
        say: called with a line about what is being done.
    """
    layers = layers_of(model)
    say(f"looking at {len(layers)} layers one by one")
    findings = _cheap_findings(model, ranges, pictures, layers)
    worst_layers = [each.layer for each in findings[:worst]]
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.group, []).append(layer)
    losses, ap = _losses(_trials(model, ranges, groups, worst_layers), model, detect, dataset, say)
    parts = [
        GroupFinding(
            name,
            layers=len(members),
            macs=sum(each.macs for each in members),
            alone=losses[f"only {name}"],
            without=losses[f"all but {name}"],
        )
        for name, members in groups.items()
    ]
    return Diagnosis(
        images=len(dataset),
        AP=ap,
        loss=losses["all"],
        groups=tuple(sorted(parts, key=lambda each: each.alone.value, reverse=True)),
        layers=tuple(replace(each, loss=losses.get(each.layer.node)) for each in findings),
    )


def _cheap_findings(
    model: onnx.ModelProto,
    ranges: Ranges,
    pictures: Sequence[npt.NDArray[np.uint8]],
    layers: Sequence[Layer],
) -> list[LayerFinding]:
    """Every layer, the worst first, AP not yet measured."""
    by_node = {layer.node: layer for layer in layers}
    found = [
        LayerFinding(by_node[alone.node], alone)
        for alone in find_sensitive(model, ranges, pictures)
        if alone.node in by_node
    ]
    suspects = [each.layer for each in found[:SUSPECTS]]
    names = [name for layer in suspects for name in (layer.input, layer.weight, layer.output)]
    noise = activation_noise(model, ranges, pictures, names) | weight_noise(model, names)
    errors = OutputErrors(model, pictures)
    for name, each in noise.items():
        scores = errors.of(with_rounded(model, ranges, name), name)
        noise[name] = replace(each, scores_sqnr_db=scores.sqnr_db)
    for index, layer in enumerate(suspects):
        guilty = _guilty(layer, noise)
        reasons = _reasons(layer, guilty, ranges, layers)
        found[index] = replace(found[index], guilty=guilty, reasons=reasons)
    return found


def _guilty(layer: Layer, noise: Mapping[str, TensorNoise]) -> TensorNoise:
    """The tensor of the layer whose rounding harms the scores most."""
    tensors = {"input": layer.input, "weights": layer.weight, "output": layer.output}
    known = [replace(noise[name], role=role) for role, name in tensors.items() if name in noise]
    return min(known, key=lambda each: each.scores_sqnr_db)


def _reasons(
    layer: Layer, guilty: TensorNoise, ranges: Ranges, layers: Sequence[Layer]
) -> tuple[str, ...]:
    """What is to blame: in the tensor's values, and in its place in the network."""
    reasons = list(guilty.causes)
    if guilty.role == "weights" and layer.input in ranges and layer.sums in ranges:
        inputs, sums = (max(map(abs, ranges[name])) for name in (layer.input, layer.sums))
        weights = max(-guilty.low, guilty.high)
        if weights * inputs > CANCELLED * sums:
            reasons.append(
                f"weights up to {weights:.3g} meet inputs up to {inputs:.3g} and give no more than "
                f"{sums:.3g}: large products cancel, their rounding stays"
            )
    if guilty.role == "output" and layer.group.endswith("boxes and classes"):
        reasons.append("one scale is shared by boxes and scores")
    if guilty.role == "output" and layer.activation in FLOAT_ACTIVATIONS:
        name = FLOAT_ACTIVATIONS[layer.activation]
        reasons.append(f"{name} behind it stays in float: it is rounded before and after")
    if guilty.role == "input":
        before = [each for each in layers if each.output == layer.input]
        reasons += [f"it is the output of {each.label}" for each in before]
    return tuple(reasons)


def _trials(
    model: onnx.ModelProto,
    ranges: Ranges,
    groups: Mapping[str, Sequence[Layer]],
    worst: Sequence[Layer],
) -> dict[str, Callable[[], onnx.ModelProto]]:
    """What AP is measured of: each name with what makes its graph."""
    inside = quantised_nodes(model)

    def only(nodes: Sequence[str]) -> Callable[[], onnx.ModelProto]:
        return lambda: quantise_onnx(model, ranges, only=companions(model, nodes, inside))

    def all_but(nodes: Sequence[str]) -> Callable[[], onnx.ModelProto]:
        return lambda: quantise_onnx(model, ranges, keep_float=nodes)

    trials = {"all": all_but(())}
    for name, members in groups.items():
        nodes = [each.node for each in members]
        trials |= {f"only {name}": only(nodes), f"all but {name}": all_but(nodes)}
    return trials | {layer.node: only([layer.node]) for layer in worst}


def _losses(
    trials: Mapping[str, Callable[[], onnx.ModelProto]],
    model: onnx.ModelProto,
    detect: Detect,
    dataset: DetectionDataset,
    say: Say,
) -> tuple[dict[str, Interval], float]:
    """AP lost in each trial against fp32, 0 to 1, and the AP of fp32."""
    found = [detect(model)]
    for number, (name, make) in enumerate(trials.items(), 1):
        say(f"AP in int8 [{number}/{len(trials)}]: {name}")
        found.append(detect(make()))
    compared = compare_detections(dataset, found)
    gains = [each.AP for each in compared.differences]
    losses = [Interval(-gain.value, -gain.high, -gain.low) for gain in gains]
    return dict(zip(trials, losses, strict=True)), compared.results[0].AP or 0.0


def _layer_dict(finding: LayerFinding) -> dict[str, Any]:
    content = asdict(finding)
    content["alone"] = {
        "scores_sqnr_db": finding.alone.sqnr_db,
        "score_error": finding.alone.score_error,
        "box_error_px": finding.alone.box_error,
    }
    return content
