"""Layer times of a network in eager torch, from torch's own profiler."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from flyweight.profiling.layer_times import NETWORK_PREFIX, LayerTimes, median_layers
from flyweight.profiling.stopwatch import PAUSE_S, time_in_turns
from flyweight.runtime.session import checked_threads

RANGE = "layer "

Row = tuple[str, str, float]


def time_layers(
    network: nn.Module, images: Tensor, *, threads: int | None = None, repeats: int = 15
) -> LayerTimes:
    """Run the network in evaluation mode with and without the profiler in turns.

    Args:
        network: on the CPU; its mode and hooks are as before afterwards.
        images: what it takes.
        threads: of one run; the available cores by default.
    """
    threads, before, training = checked_threads(threads), torch.get_num_threads(), network.training
    torch.set_num_threads(threads)
    network.eval()

    @torch.inference_mode()
    def run() -> None:
        network(images)

    try:
        run_time = time_in_turns({"plain": run}, rounds=repeats)["plain"]
        with _named_ranges(network):
            watched = time_in_turns({"watched": lambda: _profiled(run)}, rounds=2)["watched"]
            runs = []
            for _ in range(repeats):
                time.sleep(PAUSE_S)
                run()
                runs.append(_rows(_profiled(run)))
    finally:
        torch.set_num_threads(before)
        network.train(training)
    return LayerTimes("torch", threads, median_layers(runs), run_time, watched)


def _profiled(run: Callable[[], None]) -> Any:
    # Kineto says on the terminal that it starts, that it stops, and that there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    return profiler


def _rows(profiler: Any) -> list[Row]:
    """Of each operator that a layer calls, its `(layer, name, milliseconds)` in order.

    What an operator calls in turn is part of it.
    """
    rows = []
    for event in sorted(profiler.events(), key=lambda each: each.time_range.start):
        parent = event.cpu_parent
        if parent is None or event.name.startswith(RANGE) or not parent.name.startswith(RANGE):
            continue
        layer = parent.name.removeprefix(RANGE).removeprefix(NETWORK_PREFIX)
        rows.append((layer, event.name.removeprefix("aten::"), event.time_range.elapsed_us() / 1e3))
    return rows


@contextmanager
def _named_ranges(network: nn.Module) -> Iterator[None]:
    """While open, each module's call is a range of the profiler's, under the module's name."""
    open_ranges: list[Any] = []
    handles = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            open_ranges.append(record_function(RANGE + name))
            open_ranges[-1].__enter__()

        return hook

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
