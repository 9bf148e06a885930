"""Quantisation-aware training: a network learns with the roundings that its int8 file will have.

Jacob et al. 2018 (https://arxiv.org/abs/1712.05877), section 3: in training, weights and
activations go through int8 and back (fake quantisation), the gradient as if they had not, but for
values beyond the range (straight-through estimator, Bengio et al. 2013, arXiv 1308.3432). What
comes out is an ordinary detector, folded, whose int8 file loses less; the ordinary loop trains it.

The numbers are those of `quantise_onnx`: uint8 with a scale and zero point per tensor for what goes
into a convolution, and comes out of it where no ReLU follows; int8 with a scale per output channel
for weights, as they are at every step. Ranges are calibrated once and stay. Residual sums are
rounded where a convolution reads them, not on their way past it.

torch's own operators round. Neither library for it fits here: NNCF's compiles C++ at its first
use, and torch does not export what it leaves to ONNX; torchao's works on a captured graph, which
has lost the parts that losses, freezing and other input sizes need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from torch import Tensor, nn

from flyweight.compression.fold import fold, unfolded_norms
from flyweight.compression.quantise_onnx import Ranges, quantised_nodes
from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.detector import Detector
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.result import TrainingResult

# C_out, C_in channels of a convolution, k its kernel

UINT8 = 255
# Weights in 7 bits, as in the file: see `quantise_onnx`.
WEIGHT_LEVELS = 64
LEARNING_RATE = 1e-4


class Range(NamedTuple):
    """Lowest and highest value of a tensor."""

    low: float
    high: float


class QuantisedConv(nn.Conv2d):
    """A convolution that computes with values that int8 has; its state is a plain one's.

    Args:
        conv: whose weights it takes over.
        inputs: of what goes in.
        outputs: of what comes out; None where an activation behind it has the range.
    """

    def __init__(self, conv: nn.Conv2d, *, inputs: Range, outputs: Range | None) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.rounded_input = ActivationRounding(inputs)
        self.rounded_output = nn.Identity() if outputs is None else ActivationRounding(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, H, W]` to `[B, C_out, H', W']`."""
        rounded = self._conv_forward(self.rounded_input(x), rounded_weight(self.weight), self.bias)
        return self.rounded_output(rounded)


class ActivationRounding(nn.Module):
    """Values to the nearest of the 256 that uint8 has in a range, which includes 0."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, values: Range) -> None:
        super().__init__()
        low, high = min(values.low, 0.0), max(values.high, 0.0)
        scale = torch.tensor((high - low) / UINT8 or 1.0, dtype=torch.float32)
        zero_point = torch.tensor(round(-low / float(scale)), dtype=torch.int32)
        # not persistent: a checkpoint of the trained network is a plain one
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("zero_point", zero_point, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of any shape; no gradient comes from values beyond the range."""
        return torch.fake_quantize_per_tensor_affine(
            x.float(), self.scale, self.zero_point, 0, UINT8
        )


def rounded_weight(weight: Tensor) -> Tensor:
    """`weight [C_out, C_in / groups, k, k]` to the nearest of the 129 values that it has in the
    file, from -64 to 64 scales of its output channel."""
    largest = weight.detach().abs().amax(dim=(1, 2, 3)).float()
    scale = torch.where(largest > 0, largest / WEIGHT_LEVELS, 1.0)
    return torch.fake_quantize_per_channel_affine(
        weight.float(),
        scale,
        torch.zeros_like(scale, dtype=torch.int32),
        0,
        -WEIGHT_LEVELS,
        WEIGHT_LEVELS,
    )


def quantisation_aware(detector: Detector, graph: onnx.ModelProto, ranges: Ranges) -> Detector:
    """A folded copy of `detector` that computes as its int8 file will, ready to be trained.

    Its checkpoint is that of the folded detector. A convolution that several levels share has their
    common range; the file has one for each.

    Args:
        detector: stays as it is.
        graph: its fp32 graph, of `flyweight.export.onnx.to_onnx`.
        ranges: of `calibrate` on that graph.

    Raises:
        InputError: a BatchNorm cannot be folded, or graph and detector do not fit.
    """
    aware = fold(detector)
    left = unfolded_norms(aware)
    if left:
        raise InputError(
            f"the BatchNorm {left[0]} cannot be folded, so its layer has no int8 weights to train",
            fix="quantise the detector after training instead",
        )
    layers = dict(aware.named_modules())
    for name, (inputs, outputs) in _ranges_by_layer(graph, ranges).items():
        conv = layers.get(name)
        if type(conv) is not nn.Conv2d:
            raise InputError(f"the graph's convolution {name!r} is none of the detector's")
        parent, _, child = name.rpartition(".")
        setattr(layers[parent], child, QuantisedConv(conv, inputs=inputs, outputs=outputs))
    return aware.requires_grad_(True)


def fine_tune_for_int8(
    detector: Detector,
    train_set: DetectionDataset,
    val_set: DetectionDataset | None,
    recipe: Recipe,
    run_dir: str | Path,
    *,
    graph: onnx.ModelProto,
    ranges: Ranges,
    **options: Any,
) -> TrainingResult:
    """Train `detector` for int8; validation is of the rounded network.

    The best checkpoint is a plain folded detector. `quantise_onnx` of its graph, with the same
    `ranges`, is what was trained; calibrated anew it differs by as much as its ranges do.

    Args:
        detector: trained; it stays as it is.
        recipe: such as `int8_recipe`'s; it may name a teacher.
        run_dir: the run's folder.
        graph, ranges: see `quantisation_aware`.
        options: of `flyweight.training.loop.train`, such as `resume`.

    Raises:
        InputError: as `quantisation_aware` and `train` do.
    """
    aware = quantisation_aware(detector, graph, ranges)
    return train(aware, train_set, val_set, recipe, run_dir, **options)


def int8_recipe(recipe: Recipe | None = None, **changes: Any) -> Recipe:
    """Ten epochs at a tenth of the usual rate: enough to find the int8 values near by."""
    short = replace(recipe or Recipe(), epochs=10, lr=LEARNING_RATE, warmup_epochs=0.5)
    return replace(short, **changes)


def _ranges_by_layer(
    graph: onnx.ModelProto, ranges: Ranges
) -> dict[str, tuple[Range, Range | None]]:
    """Of each convolution in int8, by its name in the detector, the ranges of input and output."""
    found: dict[str, tuple[Range, Range | None]] = {}
    for name, inputs, outputs in _convolutions(graph):
        new = Range(*ranges[inputs]), None if outputs is None else Range(*ranges[outputs])
        found[name] = tuple(map(_common, found[name], new)) if name in found else new  # type: ignore[assignment]
    return found


def _convolutions(graph: onnx.ModelProto) -> Iterator[tuple[str, str, str | None]]:
    """Layer, input tensor and output tensor of each convolution; no output where a ReLU follows."""
    inside = set(quantised_nodes(graph))
    clipped = {node.input[0] for node in graph.graph.node if node.op_type in ("Relu", "Clip")}
    for node in graph.graph.node:
        if node.op_type == "Conv" and node.name in inside:
            # the exporter keeps the names of weights
            layer = node.input[1].removesuffix(".weight")
            output = node.output[0]
            yield layer, node.input[0], None if output in clipped else output


def _common(first: Range | None, second: Range | None) -> Range | None:
    if first is None or second is None:
        return first or second
    return Range(min(first.low, second.low), max(first.high, second.high))
