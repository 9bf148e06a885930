"""From the calls of a pass to operations: who reads whose output, and what each call costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from flyweight.profiling.operation import Operation
from flyweight.profiling.peak_memory import live_bytes
from flyweight.profiling.prices import Price, price
from flyweight.profiling.receptive_field import Field, propagate
from flyweight.profiling.recorder import FACTORIES, Call, Read, Storage, storage_of

# In the place of an operation's index.
INPUT = -1


def assemble(
    calls: Sequence[Call], images: Tensor, *, outputs: Sequence[Tensor], weights: Iterable[Tensor]
) -> tuple[list[Operation], tuple[int, ...]]:
    """Operations in the order of the calls, and the indices of those that give `outputs`.

    Args:
        calls: as recorded.
        images: the network's input.
        outputs: what it gave.
        weights: its parameters and buffers.
    """
    read = {storage_of(each.tensor) for call in calls for each in call.read}
    needed = read | {storage_of(each) for each in outputs}
    made = [c for c in calls if c.operator not in FACTORIES or storage_of(c.outputs[0]) in needed]
    assembly = _Assembly(images, weights={storage_of(each): each for each in weights})
    schedule = [[*(each.tensor for each in call.read), *_written(call, needed)] for call in made]
    live = assembly.live(schedule, outputs)
    operations = [
        assembly.operation(index, call, written=_written(call, needed), live=bytes_in_use)
        for index, (call, bytes_in_use) in enumerate(zip(made, live, strict=True))
    ]
    leaving = (assembly.producers.get(storage_of(each), INPUT) for each in outputs)
    return operations, tuple(dict.fromkeys(index for index in leaving if index != INPUT))


def _written(call: Call, needed: set[Storage]) -> list[Tensor]:
    """The first output, and of the others (places of maxima, statistics) those in use."""
    return [call.outputs[0], *(each for each in call.outputs[1:] if storage_of(each) in needed)]


class _Assembly:
    """What is known while operations are put together in order.

    Attributes:
        producers: of each buffer, the operation that wrote it last.
    """

    def __init__(self, images: Tensor, *, weights: dict[Storage, Tensor]) -> None:
        self.images = images
        self.weights = weights
        self.producers: dict[Storage, int] = {storage_of(images): INPUT}
        self._fields: dict[int, Field | None] = {INPUT: Field()}
        self._counted: set[Storage] = set()

    def live(self, schedule: Sequence[Sequence[Tensor]], outputs: Sequence[Tensor]) -> list[int]:
        """Bytes in use during each step of a schedule of tensors that are touched."""
        sizes: dict[Any, int] = {
            storage_of(each): each.untyped_storage().nbytes()
            for each in (self.images, *(tensor for step in schedule for tensor in step))
        }
        touched = [
            [key for tensor in step if (key := storage_of(tensor)) not in self.weights]
            for step in schedule
        ]
        return live_bytes(
            touched, sizes, given=[storage_of(self.images)], kept=map(storage_of, outputs)
        )

    def operation(
        self, index: int, call: Call, *, written: Sequence[Tensor], live: int
    ) -> Operation:
        """The next one; `index` is its place."""
        read = [each for each in call.read if storage_of(each.tensor) in self.producers]
        inputs = tuple(self.producers[storage_of(each.tensor)] for each in read)
        weights = {storage_of(each.tensor): each.tensor for each in call.read}
        weights = {key: tensor for key, tensor in weights.items() if key in self.weights}
        cost = price(call.operator, call.arguments, call.outputs[0])
        seen = self._field(cost, read, call.outputs[0])
        self._fields[index] = seen
        self.producers |= {storage_of(each): index for each in written}
        return Operation(
            layer=call.layer,
            kind=cost.kind,
            inputs=inputs,
            input_shapes=tuple(tuple(each.tensor.shape) for each in read),
            output_shape=tuple(call.outputs[0].shape),
            params=self._new_params(weights),
            macs=cost.macs,
            elementwise=cost.elementwise,
            weight_bytes=sum(map(_bytes, weights.values())),
            read_bytes=sum(_bytes(each.tensor) for each in read),
            written_bytes=sum(map(_bytes, written)),
            live_bytes=live,
            geometry=cost.geometry,
            stride=None if seen is None else seen.stride,
            receptive_field=None if seen is None else seen.size,
        )

    def _new_params(self, weights: Iterable[Storage]) -> int:
        """Of weights that no operation before read."""
        new = set(weights) - self._counted
        self._counted |= new
        parameters = (self.weights[each] for each in new)
        return sum(each.numel() for each in parameters if isinstance(each, nn.Parameter))

    def _field(self, cost: Price, read: Sequence[Read], output: Tensor) -> Field | None:
        fields = []
        for each in read:
            made = self._fields[self.producers[storage_of(each.tensor)]]
            fields.append(None if made is None else made.every(each.steps_hw))
        scale = (Fraction(1), Fraction(1))
        if cost.kind == "interpolate":
            before = read[0].tensor.shape
            scale = (Fraction(output.shape[2], before[2]), Fraction(output.shape[3], before[3]))
        return propagate(cost.kind, fields, geometry=cost.geometry, taps=cost.taps, scale_hw=scale)


def _bytes(tensor: Tensor) -> int:
    """Of the values of `tensor` that differ: those of an expanded one are read once."""
    count = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count
