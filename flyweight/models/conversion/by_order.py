"""Others' state dicts into our modules, by order, kind and shape, never by lists of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError

_SHOWN = 5


@dataclass(frozen=True)
class _Layer:
    """The tensors of one module: {"weight": ..., "bias": ...} under the prefix of their names."""

    prefix: str
    tensors: dict[str, Tensor]

    def name(self, key: str) -> str:
        return f"{self.prefix}.{key}" if self.prefix else key

    def fits(self, other: _Layer) -> bool:
        # Same names within the module and same shapes fix the kind too: only a convolution has a
        # 4-d weight, only a linear layer a 2-d one, only a batch norm running statistics.
        return self.tensors.keys() == other.tensors.keys() and all(
            tensor.shape == other.tensors[key].shape for key, tensor in self.tensors.items()
        )


def _layers(state: Mapping[str, Tensor]) -> list[_Layer]:
    """Tensors grouped by module, in order of definition; batch counters are left out."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        prefix, _, key = name.rpartition(".")
        if key != "num_batches_tracked":
            grouped.setdefault(prefix, {})[key] = tensor
    return [_Layer(prefix, tensors) for prefix, tensors in grouped.items()]


def _describe(layer: _Layer | None, key: str) -> str:
    if layer is None or key not in layer.tensors:
        return "nothing"
    return f"{layer.name(key)} {list(layer.tensors[key].shape)}"


def _misfits(pairs: list[tuple[_Layer | None, _Layer | None]]) -> Iterator[str]:
    """Every tensor whose partner is missing or of another shape, source first."""
    for source, target in pairs:
        keys = dict.fromkeys((*(source.tensors if source else ()),))
        keys.update(dict.fromkeys(target.tensors if target else ()))
        for key in keys:
            ours = target.tensors.get(key) if target else None
            theirs = source.tensors.get(key) if source else None
            if ours is None or theirs is None or ours.shape != theirs.shape:
                yield f"{_describe(source, key)} for {_describe(target, key)}"


def convert_state_dict(
    source: Mapping[str, Tensor], target_module: nn.Module, *, source_name: str
) -> dict[str, Tensor]:
    """A state dict for `target_module` with the values of `source`, another code's state dict.

    Tensors are grouped by module in the order in which each code defines its layers, and the
    groups are paired one to one. A pair must agree in its tensors (a convolution's weight and
    bias, a batch norm's weight, bias, mean and variance, ...) and in their shapes. So it works
    for every network that both codes define in the order of execution, whatever they call the
    parts. Nothing is guessed: one tensor too many or too few is an error.

    Args:
        source: names and tensors in order of definition, as `state_dict()` gives them.
        target_module: our module; may be on the meta device, its values are not read.
        source_name: the file or model the tensors come from, for the message.

    Raises:
        InputError: naming the first tensors that do not fit, with both shapes.
    """
    foreign = [name for name, value in source.items() if not isinstance(value, Tensor)]
    if foreign:
        raise InputError(
            f"not a state dict: {foreign[0]!r} is not a tensor",
            where=source_name,
            fix="give a file that holds nothing but named weights",
        )
    target_state = target_module.state_dict()
    pairs = list(zip_longest(_layers(source), _layers(target_state)))
    converted: dict[str, Tensor] = {}
    for theirs, ours in pairs:
        if theirs is None or ours is None or not theirs.fits(ours):
            raise _mismatch(pairs, target_module, source_name)
        for key in ours.tensors:
            converted[ours.name(key)] = theirs.tensors[key].detach()
    for name in target_state:
        if name.rpartition(".")[2] == "num_batches_tracked":
            converted[name] = torch.zeros((), dtype=torch.long)
    return {name: converted[name] for name in target_state}


def paired_shapes(
    source: Mapping[str, Tensor], target_module: nn.Module
) -> Iterator[tuple[str, tuple[int, ...] | None, tuple[int, ...]]]:
    """Of each tensor of `target_module` its name, the shape of its partner in `source` by the same
    rule (None without one), and its own shape."""
    for theirs, ours in zip_longest(_layers(source), _layers(target_module.state_dict())):
        for key, tensor in ours.tensors.items() if ours is not None else ():
            partner = theirs.tensors.get(key) if theirs is not None else None
            shape = None if partner is None else tuple(partner.shape)
            yield ours.name(key), shape, tuple(tensor.shape)


def _mismatch(
    pairs: list[tuple[_Layer | None, _Layer | None]], target_module: nn.Module, source_name: str
) -> InputError:
    misfits = list(_misfits(pairs))
    shown = ", ".join(misfits[:_SHOWN])
    more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
    return InputError(
        f"weights do not fit {type(target_module).__name__}: {shown}{more}",
        where=source_name,
        fix="use weights of the same architecture and width",
    )
