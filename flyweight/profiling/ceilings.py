"""What this machine can do at most, measured: arithmetic by precision, and memory bandwidth.

The two ceilings of a roofline (Williams, Waterman & Patterson 2009). A product of large matrices
reuses what it reads hundreds of times, so arithmetic alone limits it; a copy of what no cache holds
does no arithmetic at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.profiling.stopwatch import time_in_turns
from flyweight.runtime.onnxruntime_session import session_options
from flyweight.runtime.session import checked_threads

# The largest is ten milliseconds of a core or two; what has no fast kernel takes a smaller one.
GEMM_SIDES = (1024, 256, 64)
LONGEST_S = 0.05
COPY_BYTES = 1 << 27
OPSET = 18


@dataclass(frozen=True)
class Ceilings:
    """A machine's limits with a number of threads.

    Attributes:
        gflops: billions of operations a second, two a multiply-accumulate pair, by precision:
            `fp32` always, `bf16` and `int8` where what is installed has them.
        bandwidth_gbs: billions of bytes a second, read and written together.
        threads: that worked at once.
        disturbed: other processes used the cores meanwhile: the machine can do more.
    """

    gflops: dict[str, float]
    bandwidth_gbs: float
    threads: int
    disturbed: bool = False

    def ridge(self, precision: str = "fp32") -> float:
        """Operations a byte from which on arithmetic is the limit."""
        return self._peak(precision) / self.bandwidth_gbs

    def attainable_gflops(self, intensity: float, precision: str = "fp32") -> float:
        """`min(peak, bandwidth × intensity)`: what a layer of this intensity can reach."""
        return min(self._peak(precision), self.bandwidth_gbs * intensity)

    def _peak(self, precision: str) -> float:
        if precision not in self.gflops:
            raise InputError(
                f"no ceiling was measured for {precision!r}", fix=f"choose {', '.join(self.gflops)}"
            )
        return self.gflops[precision]


def measure_ceilings(*, threads: int | None = None, rounds: int = 7) -> Ceilings:
    """Median of interleaved runs; of several ways to multiply at one precision the quickest.

    Args:
        threads: the available cores by default.
        rounds: of all measurements in turns.
    """
    import torch

    threads, before = checked_threads(threads), torch.get_num_threads()
    torch.set_num_threads(threads)
    makers: dict[str, Callable[[int], Callable[[], object]]] = {
        "fp32 torch": lambda side: _torch_product(side, torch.float32),
        "bf16 torch": lambda side: _torch_product(side, torch.bfloat16),
        "int8 torch": lambda side: _torch_product(side, torch.int8),
        "int8 onnxruntime": lambda side: _integer_product(side, threads),
    }
    try:
        products = {name: made for name, make in makers.items() if (made := _largest(make))}
        source = torch.zeros(COPY_BYTES // 4)
        target = torch.empty_like(source)
        calls = {name: call for name, (call, _) in products.items()}
        timings = time_in_turns(calls | {"copy": lambda: target.copy_(source)}, rounds=rounds)
    finally:
        torch.set_num_threads(before)
    gflops: dict[str, float] = {}
    for name, (_, side) in products.items():
        precision = name.partition(" ")[0]
        reached = 2 * side**3 / timings[name].milliseconds / 1e6
        gflops[precision] = max(gflops.get(precision, 0.0), reached)
    bandwidth = 2 * COPY_BYTES / timings["copy"].milliseconds / 1e6
    disturbed = any(timing.disturbed for timing in timings.values())
    return Ceilings(gflops, bandwidth, threads, disturbed)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _largest(
    make: Callable[[int], Callable[[], object]],
) -> tuple[Callable[[], object], int] | None:
    """The largest product that takes no longer than it should; None where there is none at all."""
    # not every build has every precision, and each says so in its own way
    with suppress(RuntimeError, NotImplementedError, AttributeError):
        for side in reversed(GEMM_SIDES):
            call = make(side)
            call()
            # the quickest: a hiccup must not make a small product stand for the machine
            spent = min(_seconds(call) for _ in range(5))
            # four times the side are 64 times the work
            if side == GEMM_SIDES[0] or 64 * spent > LONGEST_S:
                return call, side
    return None


def _torch_product(side: int, dtype: Any) -> Callable[[], object]:
    import torch

    if dtype is torch.int8:
        integers = torch.randint(-128, 127, (side, side), dtype=dtype)
        return lambda: torch._int_mm(integers, integers)
    square = torch.rand(side, side).to(dtype)
    return lambda: square @ square


def _integer_product(side: int, threads: int) -> Callable[[], object]:
    """uint8 × int8 to int32 in ONNX Runtime: the product under its quantised convolutions."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    square = (side, side)
    random = np.random.default_rng(0)
    # seven bits: AVX2 without VNNI adds pairs of products in 16 bits
    weights = numpy_helper.from_array(random.integers(-64, 64, square).astype(np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, square)],
        [helper.make_tensor_value_info("c", TensorProto.INT32, square)],
        initializer=[weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    feed = {"a": random.integers(0, 256, square, dtype=np.uint8)}
    return lambda: session.run(None, feed)
