"""Which channels stay, and what that leaves of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flyweight.compression.prune_groups import ChannelGroup, Place, Side
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.pruned import Pruned

# Of each side of each layer which channels stay, bool; sides that are not there keep all.
Kept = Mapping[Place, Tensor]
# Of a layer's weights.
DIMENSIONS: dict[Side, int] = {"out": 0, "in": 1, "norm": 0}


def kept_channels(groups: Sequence[ChannelGroup], gone: Sequence[Tensor]) -> Kept:
    """What stays without the units `gone`, bool `[U]` of each group."""
    kept: dict[Place, Tensor] = {}
    for group, units in zip(groups, gone, strict=True):
        # One more, for the channels of other groups (-1).
        stays = torch.cat((~units, torch.ones(1, dtype=torch.bool)))
        for place, of in group.unit_of.items():
            kept[place] = kept.get(place, torch.ones(len(of), dtype=torch.bool)) & stays[of]
    return kept


def kept_indices(kept: Kept, name: str, shape: Sequence[int]) -> dict[int, Tensor]:
    """Of each dimension of a tensor of the state dict the indices that stay, where some go."""
    layer = name.rpartition(".")[0]
    masks = {dim: kept.get((layer, side)) for side, dim in DIMENSIONS.items() if dim < len(shape)}
    # The input channels of a depthwise layer are no dimension of its weights.
    masks[0] = next((kept[layer, side] for side in ("out", "norm") if (layer, side) in kept), None)
    return {
        dim: mask.nonzero().squeeze(1)
        for dim, mask in masks.items()
        if mask is not None and dim < len(shape) and len(mask) == shape[dim] and not mask.all()
    }


def pruned_config(config: Config, kept: Kept) -> Any:
    """The config with the widths that stay; norms follow their layers."""
    widths: dict[str, list[int | None]] = {name: [*counts] for name, *counts in config.pruned}
    for (name, side), mask in kept.items():
        if side != "norm" and not mask.all():
            widths.setdefault(name, [None, None])[side == "out"] = int(mask.sum())
    table: Pruned = tuple((name, before, after) for name, (before, after) in widths.items())
    changed: Any = config
    return replace(changed, pruned=table)


def with_channels(detector: Detector, kept: Kept) -> Detector:
    """A copy of `detector` of the channels that stay, with their weights."""
    manifest = detector.manifest()
    model = pruned_config(detector.config, kept).to_dict()
    smaller = checkpoint.rebuild(replace(manifest, model=model, lineage=dict(manifest.lineage)))
    weights = {}
    for name, tensor in detector.model.state_dict().items():
        for dim, indices in kept_indices(kept, name, tensor.shape).items():
            tensor = tensor.index_select(dim, indices.to(tensor.device))
        weights[name] = tensor
    smaller.model.load_state_dict(weights)
    return smaller.to(detector.device).train(detector.training)
