"""What int8 does to each layer of a network: cheap signals that say where to look.

Noise is told as signal-to-quantisation-noise ratio (SQNR, Lin et al. 2016,
https://arxiv.org/abs/1511.06393, section 3): 10 log10 of the signal's power over the error's, in
dB. A bit is worth 6 dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from flyweight.compression.onnx_layers import LAYER_OPERATORS, companions
from flyweight.compression.quantise_onnx import (
    Batches,
    Ranges,
    open_graph,
    quantise_onnx,
    quantised_nodes,
    single_images,
)

# N images, A anchors, C classes


@dataclass(frozen=True)
class Sensitivity:
    """What quantising one convolution alone does to the network's output.

    Attributes:
        node: the convolution's name.
        score_error: root mean square over anchors and classes, relative to the scores' own.
        box_error: root mean square over the boxes that matter, input pixels.
    """

    node: str
    score_error: float
    box_error: float

    @property
    def total(self) -> float:
        """One figure to sort by: a pixel weighs as much as a hundredth of the scores."""
        return self.score_error + 0.01 * self.box_error

    @property
    def sqnr_db(self) -> float:
        """Of the scores."""
        return decibels(1.0, self.score_error**2)


def decibels(signal: float, noise: float) -> float:
    """SQNR of two powers; at most 120, where there is no noise to speak of."""
    return 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-12 * signal, 1e-30))


class OutputErrors:
    """Compares what changed forms of one graph say about a few pictures with what it says.

    Args:
        model: the fp32 graph.
        batches: uint8 `[N, H, W, 3]`.
        threads: of ONNX Runtime; 0 leaves the number to it.
    """

    def __init__(self, model: onnx.ModelProto, batches: Batches, *, threads: int = 0) -> None:
        self.images = list(single_images(batches))
        self.threads = threads
        self.reference = _outputs(model, self.images, threads)

    def of(self, changed: onnx.ModelProto, name: str) -> Sensitivity:
        """Errors of `changed`, under `name`."""
        return _sensitivity(name, self.reference, _outputs(changed, self.images, self.threads))


def find_sensitive(
    model: onnx.ModelProto,
    ranges: Ranges,
    batches: Batches,
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sensitivity]:
    """Every convolution and linear layer with what quantising it alone costs, the worst first.

    Args:
        model: the fp32 graph.
        ranges: of `calibrate`.
        batches: uint8 `[N, H, W, 3]`; a few pictures tell enough.
        progress: called with (convolutions done, convolutions).
    """
    errors = OutputErrors(model, batches, threads=threads)
    inside = quantised_nodes(model)
    convolutions = [node.name for node in model.graph.node if node.op_type in LAYER_OPERATORS]
    found = []
    for done, name in enumerate(convolutions, 1):
        alone = companions(model, [name], inside)
        found.append(errors.of(quantise_onnx(model, ranges, only=alone), name))
        if progress is not None:
            progress(done, len(convolutions))
    return sorted(found, key=lambda each: each.total, reverse=True)


def _sensitivity(
    name: str,
    reference: Sequence[npt.NDArray[np.float32]],
    outputs: Sequence[npt.NDArray[np.float32]],
) -> Sensitivity:
    boxes, scores = reference
    found_boxes, found_scores = outputs
    signal = float(np.sqrt(np.mean(np.square(scores, dtype=np.float64)))) + 1e-12
    noise = float(np.sqrt(np.mean(np.square(found_scores - scores, dtype=np.float64))))
    # Boxes weigh by their best score: where there is nothing, any box will do.
    weights = scores.max(axis=-1).astype(np.float64) ** 2
    squares = np.square(found_boxes - boxes, dtype=np.float64).mean(axis=-1)
    box_error = float(np.sqrt((squares * weights).sum() / (weights.sum() + 1e-12)))
    return Sensitivity(name, noise / signal, box_error)


def _outputs(
    model: onnx.ModelProto, images: Sequence[npt.NDArray[np.uint8]], threads: int
) -> list[npt.NDArray[np.float32]]:
    """`boxes [N, A, 4]` and `scores [N, A, C]` of all images."""
    session = open_graph(model, (), threads)
    runs = [session.run(["boxes", "scores"], {"images": image}) for image in images]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]
