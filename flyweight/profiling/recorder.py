"""Every operator that torch calls while a network without memory runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# They give a tensor without reading one, and cost nothing where nobody reads theirs.
FACTORIES = frozenset(
    f"{prefix}{name}{suffix}"
    for name in ("empty", "zeros", "ones", "full")
    for prefix, suffix in (("", ""), ("new_", ""), ("", "_like"))
) | {"empty_strided", "new_empty_strided", "arange", "scalar_tensor"}
# They give the tensor that they are given.
IN_PLACE = frozenset(
    f"{name}_"
    for name in ("relu", "hardtanh", "hardswish", "hardsigmoid", "leaky_relu", "mish", "silu")
)
# They change how a tensor's memory is looked at, and none of it.
RELABELS = frozenset({"as_strided_"})
# Their outputs are channels-last where their inputs are, but not on the meta device.
FORGETS_LAYOUT = frozenset({"convolution", "channel_shuffle", "native_channel_shuffle"})
# Meta tensors' memory is nowhere, but each has a storage object, which views share.
Storage = int


@dataclass(frozen=True)
class Read:
    """A tensor that a call reads, and every how many rows and columns of the map that was made."""

    tensor: Tensor
    steps_hw: tuple[int, int]


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        layer: path of the module that made it.
        operator: torch's name.
        arguments: by the names of the operator's schema.
        read: tensors among them whose values matter.
        outputs: tensors that it wrote.
    """

    layer: str
    operator: str
    arguments: dict[str, Any]
    read: list[Read]
    outputs: list[Tensor]


@dataclass
class _Steps:
    """Of strided views, how many rows and columns of their map are left out between two."""

    of: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, tensor: Tensor) -> tuple[int, int]:
        return self.of.get(id(tensor), (1, 1))

    def view(self, operator: str, arguments: dict[str, Any], output: Tensor) -> None:
        height, width = self(arguments.get("self", output))
        if operator == "slice" and output.dim() == 4:
            axis, step = arguments.get("dim", 0) % 4, arguments.get("step", 1)
            height, width = height * (step if axis == 2 else 1), width * (step if axis == 3 else 1)
        self.of[id(output)] = (height, width)


class Recorder(TorchDispatchMode):
    """Writes down every call of an operator on meta tensors, with the layer that made it."""

    def __init__(self, *, root: str) -> None:
        super().__init__()
        self.root = root
        self.calls: list[Call] = []
        self._path: list[str] = []
        self._steps = _Steps()
        self._alive: list[Any] = []

    @contextmanager
    def layers_of(self, network: nn.Module) -> Iterator[None]:
        """Within it, calls are known by the module of `network` that makes them."""
        hooks = []
        for name, module in network.named_modules():

            def enter(_: nn.Module, __: Any, name: str = name) -> None:
                self._path.append(name)

            def leave(_: nn.Module, __: Any, ___: Any) -> None:
                self._path.pop()

            hooks += [
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave),
            ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(_on_meta(each) for each in tree_leaves((args, kwargs))):
            # Proposals have values, the maps that they are read from have none.
            args, kwargs = tree_map(_to_meta, (args, kwargs))
        operator = func._schema.name.split("::")[-1]
        result = _shapes(func, operator, args, kwargs)
        outputs = [each for each in tree_leaves(result) if _on_meta(each)]
        if not outputs:
            return result
        # No storage may go, or the next one would take its address and be taken for it.
        self._alive += [args, kwargs, result]
        arguments = _named(func, args, kwargs)
        read = [] if operator in FACTORIES else _tensors_read(operator, arguments)
        sources = {storage_of(each) for each in read}
        changes = func._schema.is_mutable and operator not in RELABELS
        if not changes and all(storage_of(each) in sources for each in outputs):
            for output in outputs:
                self._steps.view(operator, arguments, output)
            return result
        layer = self._path[-1] if self._path and self._path[-1] else self.root
        places = [Read(each, self._steps(each)) for each in read]
        self.calls.append(Call(layer, operator, arguments, places, outputs))
        return result


def _shapes(func: Any, operator: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call gives, as far as shapes go."""
    # torch would take most of its time for those that plainly keep the shape.
    if operator in IN_PLACE and _on_meta(args[0]):
        return args[0]
    if operator == "native_batch_norm" and _on_meta(args[0]):
        return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
    result = func(*args, **kwargs)
    if operator in FORGETS_LAYOUT and _channels_last(args[0]):
        return result.to(memory_format=torch.channels_last)
    return result


def storage_of(tensor: Tensor) -> Storage:
    """What a tensor shares with its views."""
    return tensor.untyped_storage()._cdata


def _named(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name, defaults too."""
    schema = func._schema.arguments
    named = {each.name: each.default_value for each in schema if each.has_default_value()}
    named |= {each.name: value for each, value in zip(schema, args, strict=False)}
    return named | kwargs


def _tensors_read(operator: str, arguments: dict[str, Any]) -> list[Tensor]:
    given = dict(arguments)
    if operator == "deform_conv2d" and not given["use_mask"]:
        del given["mask"]  # torchvision fills the place with a tensor of nothing
    if operator in ("copy_", "fill_", "zero_"):
        del given["self"]  # overwritten unread
    return [each for each in tree_leaves(given) if _on_meta(each)]


def _on_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "meta"


def _channels_last(value: Any) -> bool:
    # By its strides: half of the channels of such a map is not contiguous in any sense.
    return _on_meta(value) and value.dim() == 4 and value.stride(1) == 1


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
