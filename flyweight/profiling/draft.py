"""A network written down as its operations alone: no weights, no module, ready to be priced."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flyweight.profiling.operation import FLOAT_BYTES, Geometry, NetworkCost, Operation

# C channels, H x W cells

INPUT = -1


class Draft:
    """Operations in the order in which they were asked for; every call returns an index.

    Args:
        input_shape: `[1, C, H, W]`.
    """

    def __init__(self, input_shape: tuple[int, int, int, int]) -> None:
        self.input_shape = input_shape
        self.operations: list[Operation] = []

    def shape(self, index: int) -> tuple[int, ...]:
        """Of the output of operation `index`, or of the input."""
        return self.input_shape if index == INPUT else self.operations[index].output_shape

    def add(
        self,
        kind: str,
        sources: Sequence[int],
        shape: Sequence[int] | None = None,
        *,
        params: int = 0,
        macs: int = 0,
        input_shapes: Sequence[tuple[int, ...]] | None = None,
        geometry: Geometry | None = None,
    ) -> int:
        """Any operator; its output has the first source's shape where `shape` is None."""
        read = tuple(input_shapes or map(self.shape, sources))
        written = tuple(shape) if shape is not None else read[0]
        self.operations.append(
            Operation(
                layer=f"{len(self.operations)}.{kind}",
                kind=kind,
                inputs=tuple(sources),
                input_shapes=read,
                output_shape=written,
                params=params,
                macs=macs,
                elementwise=0 if macs else math.prod(written),
                weight_bytes=FLOAT_BYTES * params,
                read_bytes=FLOAT_BYTES * sum(map(math.prod, read)),
                written_bytes=FLOAT_BYTES * math.prod(written),
                geometry=geometry,
            )
        )
        return len(self.operations) - 1

    def conv(
        self,
        source: int,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
        share: int = 1,
    ) -> int:
        """A convolution with bias and "same" padding, and its activation.

        It reads one of `share` equal parts of the channels.
        """
        _, given, *size_hw = self.shape(source)
        read = given // share
        padding = (kernel - 1) // 2
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in size_hw)
        weights = channels * read // groups * kernel**2
        index = self.add(
            "conv2d",
            [source],
            (1, channels, height, width),
            input_shapes=[(1, read, *size_hw)],
            params=weights + channels,
            macs=weights * height * width,
            geometry=_square(kernel, stride, padding, groups),
        )
        return index if act is None else self.add(act, [index])

    def depthwise(
        self, source: int, *, kernel: int = 3, stride: int = 1, act: str | None = None
    ) -> int:
        """A convolution with one filter a channel, and its activation."""
        channels = self.shape(source)[1]
        return self.conv(source, channels, kernel=kernel, stride=stride, groups=channels, act=act)

    def pool(self, kind: str, source: int, *, kernel: int, stride: int) -> int:
        """`max_pool2d` or `avg_pool2d` with "same" padding."""
        _, channels, *size_hw = self.shape(source)
        padding = (kernel - 1) // 2
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in size_hw)
        return self.add(
            kind,
            [source],
            (1, channels, height, width),
            geometry=_square(kernel, stride, padding, 1),
        )

    def concat(self, sources: Sequence[int]) -> int:
        """Over channels."""
        shapes = [self.shape(each) for each in sources]
        return self.add("concat", sources, (1, sum(each[1] for each in shapes), *shapes[0][2:]))

    def cost(self, name: str, *, outputs: Sequence[int] = ()) -> NetworkCost:
        """The network; its last operation is its output by default."""
        last = len(self.operations) - 1
        return NetworkCost(name, self.input_shape, tuple(self.operations), tuple(outputs or [last]))


def _square(kernel: int, stride: int, padding: int, groups: int) -> Geometry:
    return Geometry(
        (kernel, kernel),
        stride_hw=(stride, stride),
        padding_hw=(padding, padding),
        groups=groups,
    )
