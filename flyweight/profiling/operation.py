"""One operation of a network with its shapes and price; all operations in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Geometry:
    """How a convolution or a pooling reads its input: (height, width) pairs in cells."""

    kernel_hw: tuple[int, int]
    stride_hw: tuple[int, int] = (1, 1)
    dilation_hw: tuple[int, int] = (1, 1)
    padding_hw: tuple[int, int] = (0, 0)
    groups: int = 1


@dataclass(frozen=True)
class Operation:
    """One call of one operator, priced for float32 and the batch that was profiled.

    Attributes:
        layer: dotted path of the module that made the call, such as `backbone.stages.3.expand`.
        kind: the operator: `conv2d`, `conv_transpose2d`, `deform_conv2d`, `linear`, `matmul`,
            `batch_norm`, `group_norm`, `max_pool2d`, `avg_pool2d`, `interpolate`, `roi_align`,
            `relu`, `hardswish`, `sigmoid`, `add`, `mul`, `concat`, ...; views cost nothing and have
            no operation of their own.
        inputs: indices in the network of the operations whose outputs this one reads; -1 is the
            network's input.
        input_shapes: of the activations that it reads, in the order of `inputs`.
        output_shape: of what it writes.
        params: weights and biases that it is the first to read (a shared tower counts once).
        macs: multiply-accumulate pairs.
        elementwise: arithmetic on single elements that is no multiply-accumulate pair.
        weight_bytes: of all weights it reads, shared or not.
        read_bytes: of the activations it reads.
        written_bytes: of the activations it writes.
        live_bytes: activations that must be in memory while it runs, its output included.
        geometry: of convolutions and poolings, else None.
        stride: cells of its output are this many input pixels apart; None if that has no meaning.
        receptive_field: side in pixels of the network's input that one output cell depends on;
            None where it is not local (global pooling, matmul).
    """

    layer: str
    kind: str
    inputs: tuple[int, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    params: int = 0
    macs: int = 0
    elementwise: int = 0
    weight_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    live_bytes: int = 0
    geometry: Geometry | None = None
    stride: int | None = None
    receptive_field: int | None = None

    @property
    def access_bytes(self) -> int:
        """Memory access cost: bytes read and written (ShuffleNetV2, section 2)."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: floating point operations a byte (Williams et al. 2009)."""
        return (2 * self.macs + self.elementwise) / max(self.access_bytes, 1)

    @property
    def depthwise(self) -> bool:
        """True of a convolution with one filter a channel."""
        geometry = self.geometry
        return (
            self.kind == "conv2d"
            and geometry is not None
            and 1 < geometry.groups == self.input_shapes[0][1]
        )


@dataclass(frozen=True)
class NetworkCost:
    """The operations of a network, in the order in which they run.

    Attributes:
        name: of the model.
        input_shape: `[B, 3, H, W]`.
        operations: all of them.
        outputs: indices of the operations whose outputs leave the network.
    """

    name: str
    input_shape: tuple[int, int, int, int]
    operations: Sequence[Operation]
    outputs: tuple[int, ...] = field(default=())

    @cached_property
    def params(self) -> int:
        """All weights."""
        return sum(each.params for each in self.operations)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulate pairs of one pass."""
        return sum(each.macs for each in self.operations)

    @cached_property
    def access_bytes(self) -> int:
        """Bytes read and written in one pass, were nothing kept in a cache."""
        return sum(each.access_bytes for each in self.operations)

    @cached_property
    def peak_activation_bytes(self) -> int:
        """The most that activations need at one time."""
        return max((each.live_bytes for each in self.operations), default=0)
