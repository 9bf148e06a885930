"""What this machine can do at most, measured: arithmetic by precision, and memory bandwidth.

The two ceilings of a roofline (Williams, Waterman & Patterson 2009). A product of large matrices
reuses what it reads hundreds of times, so arithmetic alone limits it; a copy of what no cache holds
does no arithmetic at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from flyweight.core.errors import CheckError, InputError
from flyweight.profiling.stopwatch import OTHERS, PATIENCE, PAUSE_S, Load
from flyweight.runtime.onnxruntime_session import session_options
from flyweight.runtime.session import checked_threads

# The largest is ten milliseconds of a core or two; what has no fast kernel takes a smaller one.
GEMM_SIDES = (1024, 256, 64)
LONGEST_S = 0.05
COPY_BYTES = 1 << 27
OPSET = 18
# A limit is what was reached this often, this closely: a maximum that came once may be an accident.
REPEATED, CLOSELY = 3, 0.1
# Without these there is no roof; that of another precision may be left out.
NEEDED = frozenset({"copy", "fp32"})

Call = Callable[[], object]
Stopwatch = Callable[[Call], float]


@dataclass(frozen=True)
class Ceilings:
    """A machine's limits with a number of threads: the most that was reached.

    Attributes:
        gflops: billions of operations a second, two a multiply-accumulate pair, by precision:
            `fp32` always, `bf16` and `int8` where what is installed has them.
        bandwidth_gbs: billions of bytes a second, read and written together.
        threads: that worked at once.
        disturbed: other processes used the cores all the while: the machine may do more.
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

    def higher(self, other: Ceilings) -> Ceilings:
        """Of two measurements of one machine the larger of each limit: both were reached."""
        gflops = {
            name: max(each.gflops[name] for each in (self, other) if name in each.gflops)
            for name in self.gflops | other.gflops
        }
        bandwidth = max(self.bandwidth_gbs, other.bandwidth_gbs)
        return Ceilings(gflops, bandwidth, self.threads, self.disturbed and other.disturbed)

    def _peak(self, precision: str) -> float:
        if precision not in self.gflops:
            raise InputError(
                f"no ceiling was measured for {precision!r}", fix=f"choose {', '.join(self.gflops)}"
            )
        return self.gflops[precision]


@dataclass(frozen=True)
class Workload:
    """Something to run, and the operations it does or the bytes it moves."""

    call: Call
    amount: float


def seconds_of(call: Call) -> float:
    """How long one call takes, by the clock on the wall."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_ceilings(
    *, threads: int | None = None, rounds: int = 7, stopwatch: Stopwatch = seconds_of
) -> Ceilings:
    """The most that was reached, of several ways to multiply at one precision by the quickest.

    Args:
        threads: the available cores by default.
        rounds: of all measurements in turns; up to PATIENCE times as many on a busy machine.
        stopwatch: gives the seconds of a call.

    Raises:
        CheckError: other processes use the machine so much that no limit shows.
    """
    import torch

    threads, before = checked_threads(threads), torch.get_num_threads()
    torch.set_num_threads(threads)
    makers: dict[str, Callable[[int], Call]] = {
        "fp32 torch": lambda side: _torch_product(side, torch.float32),
        "fp32 onnxruntime": lambda side: _onnx_product(side, threads, "MatMul"),
        "bf16 torch": lambda side: _torch_product(side, torch.bfloat16),
        "int8 torch": lambda side: _torch_product(side, torch.int8),
        "int8 onnxruntime": lambda side: _onnx_product(side, threads, "MatMulInteger"),
    }
    try:
        source = torch.zeros(COPY_BYTES // 4)
        target = torch.empty_like(source)
        workloads = {"copy": Workload(lambda: target.copy_(source), 2 * COPY_BYTES)}
        for name, make in makers.items():
            if largest := _largest(make, stopwatch):
                workloads[name] = largest
        reached, disturbed = most_reached(
            workloads, rounds=rounds, needed=NEEDED, stopwatch=stopwatch
        )
    finally:
        torch.set_num_threads(before)
    bandwidth, gflops = reached.pop("copy"), dict[str, float]()
    for name, rate in reached.items():
        precision = name.partition(" ")[0]
        gflops[precision] = max(gflops.get(precision, 0.0), rate)
    return Ceilings(gflops, bandwidth, threads, disturbed)


def most_reached(
    workloads: Mapping[str, Workload],
    *,
    rounds: int,
    needed: frozenset[str] | None = None,
    stopwatch: Stopwatch = seconds_of,
) -> tuple[dict[str, float], bool]:
    """The highest rate of each in billions a second, and whether others used the cores all along.

    Others only ever make a run slower, so the quickest one says most.

    Args:
        needed: first words of names: of each, one workload must have a limit. Others are left out
            where their highest rate does not come again. None needs all.

    Raises:
        CheckError: a highest rate did not come again, however often it was tried.
    """
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    quiet = False
    for done in range(1, PATIENCE * rounds + 1):
        load = Load()
        for name, workload in workloads.items():
            time.sleep(PAUSE_S)
            workload.call()
            # never 0: a clock may be coarse
            rates[name].append(workload.amount / max(stopwatch(workload.call), 1e-9) / 1e9)
        quiet |= load.others() <= OTHERS
        unsure = [name for name, each in rates.items() if not _came_again(each)]
        if done >= rounds and not unsure:
            return {name: max(each) for name, each in rates.items()}, not quiet
    sure = {name: max(each) for name, each in rates.items() if name not in unsure}
    if needed is not None and needed <= {name.partition(" ")[0] for name in sure}:
        return sure, not quiet
    raise CheckError(
        f"the machine's limits cannot be measured, {', '.join(unsure)} varies too much: "
        "other processes use the cores; stop them, or wait, and measure again"
    )


def _came_again(rates: list[float]) -> bool:
    highest = sorted(rates, reverse=True)
    return len(rates) >= REPEATED and highest[REPEATED - 1] >= (1 - CLOSELY) * highest[0]


def _largest(make: Callable[[int], Call], stopwatch: Stopwatch) -> Workload | None:
    """The largest product that takes no longer than it should; None where there is none at all."""
    # not every build has every precision, and each says so in its own way
    with suppress(RuntimeError, NotImplementedError, AttributeError):
        for side in reversed(GEMM_SIDES):
            call = make(side)
            call()
            # the quickest: a hiccup must not make a small product stand for the machine
            spent = min(stopwatch(call) for _ in range(5))
            # four times the side are 64 times the work
            if side == GEMM_SIDES[0] or 64 * spent > LONGEST_S:
                return Workload(call, 2 * side**3)
    return None


def _torch_product(side: int, dtype: Any) -> Call:
    import torch

    if dtype is torch.int8:
        integers = torch.randint(-128, 127, (side, side), dtype=dtype)
        return lambda: torch._int_mm(integers, integers)
    square = torch.rand(side, side).to(dtype)
    return lambda: square @ square


def _onnx_product(side: int, threads: int, operator: str) -> Call:
    """`MatMul` of float32, or `MatMulInteger`, uint8 × int8 to int32: under its convolutions."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    square, random = (side, side), np.random.default_rng(0)
    integer = operator == "MatMulInteger"
    # seven bits: AVX2 without VNNI adds pairs of products in 16 bits
    left = random.integers(0, 256, square).astype(np.uint8 if integer else np.float32)
    right = random.integers(-64, 64, square).astype(np.int8 if integer else np.float32)
    taken, given = (TensorProto.UINT8, TensorProto.INT32) if integer else (TensorProto.FLOAT,) * 2
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", taken, square)],
        [helper.make_tensor_value_info("c", given, square)],
        initializer=[numpy_helper.from_array(right, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"a": left})
