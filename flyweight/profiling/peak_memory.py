"""Which activations are in memory at the same time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

Buffer = TypeVar("Buffer", bound=Hashable)


def live_bytes(
    touched: Sequence[Iterable[Buffer]],
    sizes: Mapping[Buffer, int],
    *,
    given: Iterable[Buffer] = (),
    kept: Iterable[Buffer] = (),
) -> list[int]:
    """Bytes of the buffers that are in use while each operation of a schedule runs.

    A buffer is there from the first operation that writes it to the last that touches it. Views
    are no buffers of their own, and an operation in place touches the one that it changes.

    Args:
        touched: of each operation the buffers that it reads and writes.
        sizes: bytes of each buffer.
        given: in use from the start: the network's input.
        kept: in use to the end: what leaves the network.
    """
    first: dict[Buffer, int] = dict.fromkeys(given, 0)
    last: dict[Buffer, int] = {}
    for index, buffers in enumerate(touched):
        for buffer in buffers:
            first.setdefault(buffer, index)
            last[buffer] = index
    end = len(touched) - 1
    for buffer in kept:
        if buffer in first:
            last[buffer] = end
    change = [0] * (len(touched) + 1)
    for buffer, start in first.items():
        if buffer in last:
            change[start] += sizes[buffer]
            change[last[buffer] + 1] -= sizes[buffer]
    live, total = [], 0
    for difference in change[:-1]:
        total += difference
        live.append(total)
    return live
