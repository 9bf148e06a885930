"""Networks of a few operations, and a device on which every byte takes as long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flyweight.profiling.advice.convolution import convolution_like
from flyweight.profiling.operation import FLOAT_BYTES, Geometry, NetworkCost, Operation

SIZE = 64


class Network:
    """Operations are added one by one; each gives its index, for those that read it."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.operations: list[Operation] = []

    def conv(
        self,
        before: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        layer: str = "",
    ) -> int:
        """A convolution with padding for whole maps, and no bias."""
        shape, padding = self.shape(before), dilation * (kernel // 2)
        geometry = Geometry(
            (kernel, kernel), (stride, stride), (dilation, dilation), (padding, padding), groups
        )
        rows, columns = -(-shape[2] // stride), -(-shape[3] // stride)
        old = self.operations[before] if before >= 0 else None
        weights = out_channels * (shape[1] // groups) * kernel**2
        blank = Operation(
            layer=layer or f"backbone.{len(self.operations)}",
            kind="conv2d",
            inputs=(before,),
            input_shapes=(shape,),
            output_shape=(1, out_channels, rows, columns),
            params=weights,
            weight_bytes=FLOAT_BYTES * weights,
            geometry=geometry,
            stride=(old.stride or 1 if old else 1) * stride,
            receptive_field=(old.receptive_field or 1 if old else 1)
            + (kernel - 1) * dilation * (old.stride or 1 if old else 1),
        )
        self.operations.append(convolution_like(blank))
        return len(self.operations) - 1

    def elementwise(self, kind: str, *before: int, layer: str = "") -> int:
        """An operation on single values, or a join of channels."""
        shapes = tuple(self.shape(each) for each in before)
        channels = sum(each[1] for each in shapes) if kind == "concat" else shapes[0][1]
        shape = (1, channels, *shapes[0][2:])
        values = [_values(each) for each in shapes]
        old = self.operations[before[0]]
        self.operations.append(
            Operation(
                layer=layer or f"backbone.{kind}{len(self.operations)}",
                kind=kind,
                inputs=before,
                input_shapes=shapes,
                output_shape=shape,
                elementwise=0 if kind == "concat" else _values(shape),
                read_bytes=FLOAT_BYTES * sum(values),
                written_bytes=FLOAT_BYTES * _values(shape),
                stride=old.stride,
                receptive_field=old.receptive_field,
            )
        )
        return len(self.operations) - 1

    def shape(self, index: int) -> tuple[int, ...]:
        if index < 0:
            return (1, 3, self.size, self.size)
        return self.operations[index].output_shape

    def cost(self, *outputs: int) -> NetworkCost:
        """The network; a last layer leaves it, so that none of those above is an output."""
        ends = outputs or (self.conv(len(self.operations) - 1, 8, layer="head.output"),)
        shape = (1, 3, self.size, self.size)
        return NetworkCost("hand-made", shape, tuple(self.operations), ends)


@dataclass(frozen=True)
class Predicted:
    by_operation: tuple[float, ...]

    @property
    def milliseconds(self) -> float:
        return sum(self.by_operation)


class BytesTakeTime:
    """A device that does nothing but move memory, a gigabyte a second."""

    def predict(self, cost: NetworkCost) -> Predicted:
        return Predicted(tuple(each.access_bytes / 1e6 for each in cost.operations))


def _values(shape: tuple[int, ...]) -> int:
    count = 1
    for each in shape:
        count *= each
    return count


def names(advice: Any) -> list[str]:
    """The rules that some advice comes from."""
    return [each.rule for each in advice]
