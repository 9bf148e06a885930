"""The chain of layers under a backbone, and the levels read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.backbones.feature_info import FeatureInfo, select_features
from flyweight.models.layers.ghost import GhostBottleneck
from flyweight.models.layers.inverted_residual import InvertedResidual

# Blocks that run in two steps, `widen` and `contract`, with an expansion to read between them.
_Widening = (InvertedResidual, GhostBottleneck)

OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4_expanded", "final"),
    "classifier": ("final",),
}


@dataclass
class Plan:
    """The layers of a chain in order, with the channels and the stride after each.

    A layer named `final` is a convolution after the last block; not every chain has one.
    """

    names: list[str] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    strides: list[int] = field(default_factory=list)

    def add(self, name: str, module: nn.Module, *, channels: int, stride: int) -> None:
        """Append a layer that multiplies the stride by `stride` and gives `channels`."""
        self.names.append(name)
        self.modules.append(module)
        self.channels.append(channels)
        self.strides.append(stride * (self.strides[-1] if self.strides else 1))

    def levels(self) -> list[tuple[FeatureInfo, int]]:
        """Every level the chain offers in order of depth, with the index of its layer."""
        found: list[tuple[FeatureInfo, int]] = []
        last_block = len(self.names) - (2 if self.names[-1] == "final" else 1)
        for index in range(last_block + 1):
            stride, layer = self.strides[index], self.modules[index]
            leaves_16 = stride == 32 and self.strides[index - 1] == 16
            if leaves_16 and isinstance(layer, _Widening):
                found.append((FeatureInfo("C4_expanded", layer.expanded_channels, 16), index))
            name = f"C{stride.bit_length() - 1}"
            ends = index == last_block or self.strides[index + 1] != stride
            if not ends and index and self.strides[index - 1] != stride:
                found.append((FeatureInfo(f"{name}_first", self.channels[index], stride), index))
            if ends:
                found.append((FeatureInfo(name, self.channels[index], stride), index))
        if self.names[-1] == "final":
            info = FeatureInfo("final", self.channels[-1], self.strides[-1])
            found.append((info, len(self.names) - 1))
        return found


class Trunk(nn.ModuleDict):
    """The layers of a plan up to the last wanted level; called, it gives the wanted levels.

    Layers beyond the coarsest level are not kept: a detector carries no weight it does not use.
    """

    def __init__(
        self,
        plan: Plan,
        outputs: str | Sequence[str],
        *,
        owner: str,
        sets: Mapping[str, tuple[str, ...]] = OUTPUT_SETS,
    ) -> None:
        levels = plan.levels()
        selected = select_features([info for info, _ in levels], outputs, sets=sets, owner=owner)
        if selected[-1].name == "C4_expanded":
            raise InputError(
                "C4_expanded lies inside a block, so it cannot be the coarsest level",
                where="outputs",
                fix="add C5 or final, or take C4",
            )
        index_of = {info.name: index for info, index in levels}
        length = index_of[selected[-1].name] + 1
        super().__init__(dict(zip(plan.names[:length], plan.modules[:length], strict=True)))
        self.feature_info = selected
        self.strides = dict(zip(plan.names[:length], plan.strides[:length], strict=True))
        tap_of = {info.name: plan.names[index_of[info.name]] for info in selected}
        self._expanded_tap = tap_of.pop("C4_expanded", None)
        self._taps = set(tap_of.values())

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> one [B, channels, H / stride, W / stride] a level, coarsest last."""
        features = []
        for name, layer in self.items():
            if name == self._expanded_tap:
                assert isinstance(layer, _Widening)
                expanded = layer.widen(x)
                features.append(expanded)
                x = layer.contract(expanded, x)
            else:
                x = layer(x)
            if name in self._taps:
                features.append(x)
        return features
