"""Which channels of a network can only be pruned together.

Torch-Pruning (Fang et al. 2023, DepGraph, https://arxiv.org/abs/2301.12900) traces the network and
says which layer's channels are which other's. What stands here follows its dependencies from each
layer, channel by channel, and leaves out what cannot be pruned without changing the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning.dependency import Dependency, Group, Node

from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.pruned import WholePass
from flyweight.models.layers import ChannelShuffle, GhostModule, L2Norm
from flyweight.models.layers.narrowing import (
    Norm,
    channels_in_group,
    channels_of,
    is_depthwise,
    norm_channels,
)
from flyweight.profiling.trace import without_memory

# A layer's name, and which of its channels; a norm has one side.
Side = Literal["in", "out", "norm"]
Place = tuple[str, Side]
# Torch-Pruning's functions, which tell the sides of a layer apart.
Handler = Any


@dataclass
class ChannelGroup:
    """Channels of several layers that depend on each other. U units, each pruned whole or not.

    Attributes:
        units: U. A unit has a channel of each layer, or several where the network makes copies of
            them (ghost modules) or computes statistics over them (GroupNorm).
        unit_of: of each side of each layer the unit of its channels, int64; -1 where a channel is
            of another group (a concatenation).
        members: as Torch-Pruning's importances read them.
    """

    units: int
    unit_of: dict[Place, Tensor]
    members: Group = field(repr=False)

    @property
    def narrowest(self) -> int:
        """The fewest channels that a unit has in a layer that gives them."""
        counts = [int((of >= 0).sum()) for (_, side), of in self.unit_of.items() if side == "out"]
        return max(min(counts) // self.units, 1)


def find_groups(detector: Detector) -> tuple[list[ChannelGroup], nn.Module]:
    """The groups that can be pruned, and the network whose layers their members are.

    That network is a copy with the weights of `detector.model`, which stays as it is. No group has
    the last layers, whose channels are classes and boxes; nor what a channel split or shuffle, or
    another grouped convolution than a depthwise one, deals out.
    """
    network = without_memory(detector.model).requires_grad_(True)
    images = torch.empty((1, 3, *detector.config.size_hw), device="meta")
    last: set[nn.Module] = set()
    graph = torch_pruning.DependencyGraph().build_dependency(
        WholePass(network),
        images,
        forward_fn=lambda whole, images: _last_outputs(whole, images, last),
        customized_pruners={L2Norm: _L2NormPruner(), ChannelShuffle: _ShufflePruner()},
        verbose=False,
    )
    # On the meta device until here, where a network of any size is traced in no time.
    network.load_state_dict(detector.model.state_dict(), assign=True)
    kept = last | _surplus_ghosts(network)
    names = {module: name for name, module in network.named_modules()}
    groups, seen = [], set(kept)
    for module in graph.module2node:
        if not isinstance(module, nn.Conv2d | nn.Linear) or module in seen or is_depthwise(module):
            continue
        spread = _Spread(graph, module)
        seen |= spread.giving()
        if not spread.giving() & kept and not any(map(_deals_out, spread.modules())):
            groups.append(spread.group(names))
    return groups, network


def _last_outputs(whole: nn.Module, images: Tensor, last: set[nn.Module]) -> list[Tensor]:
    """What the layers give that no other layer reads; these layers go into `last`.

    Not what the network gives: how its rows are laid out is no matter of channels.
    """
    calls: list[tuple[nn.Module, Tensor]] = []
    layers = [each for each in whole.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: calls.append((layer, output)))
        for layer in layers
    ]
    whole(images)
    for hook in hooks:
        hook.remove()
    read: set[Any] = set()
    waiting = [function for _, output in calls for function, _ in _grad(output).next_functions]
    while waiting:
        function = waiting.pop()
        if function is not None and function not in read:
            read.add(function)
            waiting += [before for before, _ in function.next_functions]
    outputs = [(layer, output) for layer, output in calls if output.grad_fn not in read]
    last.update(layer for layer, _ in outputs)
    return [output for _, output in outputs]


def _grad(output: Tensor) -> Any:
    return output.grad_fn


class _Spread:
    """Where the output channels of a layer go, and which of them meet there."""

    def __init__(self, graph: torch_pruning.DependencyGraph, root: nn.Module) -> None:
        node = graph.module2node[root]
        handler = graph.get_pruner_of_module(root).prune_out_channels
        self.graph = graph
        channels = range(graph.get_out_channels(root))
        self.parent = list(channels)
        first = Dependency(handler, handler, source=node, target=node)
        self.found: dict[tuple[Node, Handler], tuple[Dependency, dict[int, int]]] = {
            (node, handler): (first, {index: index for index in channels})
        }
        waiting = [(node, handler, [_index(each, each) for each in channels])]
        while waiting:
            node, handler, indices = waiting.pop()
            for dependency in node.dependencies:
                if dependency.is_triggered_by(handler):
                    fresh = self._meet(dependency, indices)
                    if fresh:
                        waiting.append((dependency.target, dependency.handler, fresh))

    def _meet(self, dependency: Dependency, indices: Sequence[Any]) -> list[Any]:
        """Channels that reach the dependency's target for the first time; others are joined."""
        place = (dependency.target, dependency.handler)
        if _deals_out(dependency.target.module):
            self.found.setdefault(place, (dependency, {}))
            return []  # what is behind it does not matter: this group stays
        for mapping in dependency.index_mapping:
            if mapping is not None:
                indices = mapping(indices)
        if not indices:  # another part of a concatenation than theirs
            return []
        _, known = self.found.setdefault(place, (dependency, {}))
        fresh = []
        for each in indices:
            if each.idx in known:
                self._join(known[each.idx], each.root_idx)
            else:
                known[each.idx] = each.root_idx
                fresh.append(each)
        return fresh

    def _join(self, first: int, second: int) -> None:
        self.parent[self._of(first)] = self._of(second)

    def _of(self, channel: int) -> int:
        while self.parent[channel] != channel:
            self.parent[channel] = channel = self.parent[self.parent[channel]]
        return channel

    def modules(self) -> set[nn.Module]:
        """All that the channels reach."""
        return {node.module for node, _ in self.found}

    def giving(self) -> set[nn.Module]:
        """The layers whose output channels these are."""
        return {
            node.module
            for node, handler in self.found
            if isinstance(node.module, nn.Conv2d | nn.Linear) and self._is_out(handler)
        }

    def _is_out(self, handler: Handler) -> bool:
        return bool(self.graph.is_out_channel_pruning_fn(handler))

    def group(self, names: dict[nn.Module, str]) -> ChannelGroup:
        """The channels as a group; those of a GroupNorm's group are joined first."""
        for (node, _), (_, known) in self.found.items():
            if isinstance(node.module, nn.GroupNorm):
                size = channels_in_group(node.module)
                for index, root in known.items():
                    self._join(root, known.get(index // size * size, root))
        units: dict[int, int] = {}
        unit_of: dict[Place, Tensor] = {}
        members = Group()
        for (node, handler), (dependency, known) in self.found.items():
            if node.module not in names or isinstance(node.module, ChannelShuffle):
                continue
            indices = sorted(known)
            of = [units.setdefault(self._of(known[index]), len(units)) for index in indices]
            members.add_dep(dependency, indices)
            members[len(members) - 1].root_idxs = of
            for side in self._sides(node.module, handler):
                places = torch.full((_width(node.module, side),), -1)
                places[indices] = torch.tensor(of)
                unit_of[names[node.module], side] = places
        return ChannelGroup(len(units), unit_of, members)

    def _sides(self, module: nn.Module, handler: Handler) -> tuple[Side, ...]:
        if isinstance(module, Norm):
            return ("norm",)
        if is_depthwise(module) or isinstance(module, L2Norm):
            return "in", "out"
        return ("out",) if self._is_out(handler) else ("in",)


def _width(module: Any, side: Side) -> int:
    """Channels of a side of a layer or norm."""
    if isinstance(module, Norm):
        return norm_channels(module)
    return channels_of(module)[side == "out"]


def _index(channel: int, root: int) -> Any:
    return torch_pruning._helpers._HybridIndex(idx=channel, root_idx=root)


def _deals_out(module: nn.Module) -> bool:
    """Whether it divides channels among groups, so that removing some would move the others."""
    if isinstance(module, nn.Conv2d):
        return module.groups > 1 and not is_depthwise(module)
    if isinstance(module, ChannelShuffle):
        return module.groups > 1
    return isinstance(module, torch_pruning.ops._SplitOp)


def _surplus_ghosts(network: nn.Module) -> set[nn.Module]:
    """Convolutions of the ghost modules that make a channel too many and drop it."""
    return {
        module.primary.conv
        for module in network.modules()
        if isinstance(module, GhostModule) and module.surplus
    }


class _L2NormPruner(torch_pruning.pruner.function.BasePruningFunc):
    """Tells Torch-Pruning how wide an `L2Norm` is."""

    def get_out_channels(self, layer: L2Norm) -> int:
        return len(layer.scale)

    get_in_channels = get_out_channels

    def prune_out_channels(self, layer: L2Norm, idxs: Sequence[int]) -> nn.Module:
        return layer

    prune_in_channels = prune_out_channels


class _ShufflePruner(torch_pruning.ops.DummyPruner):
    """Makes a channel shuffle a node of the graph."""
