"""Pairing of others' tensors with ours, and what is said when they do not pair."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.conversion import convert_state_dict


def _ours() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 4, 1),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def _theirs() -> dict[str, Tensor]:
    """The same layers under other names, each tensor another random one."""
    names = {"0": "stem.c", "1": "stem.bn", "2": "neck", "3": "gn", "5": "fc"}
    state = {}
    for key, tensor in _ours().state_dict().items():
        layer, part = key.split(".")
        state[f"{names[layer]}.{part}"] = torch.rand(tensor.shape)
    return state


def test_values_arrive_under_our_names() -> None:
    source, target = _theirs(), _ours()
    converted = convert_state_dict(source, target, source_name="other.pth")
    target.load_state_dict(converted)
    assert list(converted) == list(target.state_dict())
    assert torch.equal(target[0].weight, source["stem.c.weight"])
    assert torch.equal(target[1].running_var, source["stem.bn.running_var"])
    assert torch.equal(target[2].bias, source["neck.bias"])
    assert torch.equal(target[5].weight, source["fc.weight"])


def test_batch_counters_start_at_zero_and_need_not_be_there() -> None:
    source = _theirs()
    del source["stem.bn.num_batches_tracked"]
    converted = convert_state_dict(source, _ours(), source_name="other.pth")
    counter = converted["1.num_batches_tracked"]
    assert counter.dtype == torch.long
    assert counter.item() == 0


def test_order_within_a_layer_does_not_matter() -> None:
    source = _theirs()
    shuffled = {name: source[name] for name in sorted(source, key=_bias_before_weight)}
    assert list(shuffled) != list(source)
    converted = convert_state_dict(shuffled, _ours(), source_name="other.pth")
    assert torch.equal(converted["2.weight"], source["neck.weight"])


def _bias_before_weight(name: str) -> tuple[int, str]:
    layer, _, part = name.rpartition(".")
    return (["stem.c", "stem.bn", "neck", "gn", "fc"].index(layer), part)


def test_meta_target() -> None:
    with torch.device("meta"):
        target = _ours()
    source = _theirs()
    converted = convert_state_dict(source, target, source_name="other.pth")
    assert torch.equal(converted["5.bias"], source["fc.bias"])


def test_other_shape_is_named_with_both_shapes() -> None:
    source = _theirs()
    source["neck.weight"] = torch.zeros(4, 8, 3, 3)
    with pytest.raises(InputError) as raised:
        convert_state_dict(source, _ours(), source_name="other.pth")
    assert "neck.weight [4, 8, 3, 3] for 2.weight [4, 8, 1, 1]" in str(raised.value)
    assert raised.value.where == "other.pth"
    assert "neck.bias" not in str(raised.value), "what fits is not complained about"


def test_same_shape_of_another_kind_does_not_fit() -> None:
    """A norm's weight and bias would fill a norm with running statistics only by half."""
    source = {name: t for name, t in _theirs().items() if "running" not in name}
    with pytest.raises(InputError, match=r"nothing for 1\.running_mean \[8\]"):
        convert_state_dict(source, _ours(), source_name="other.pth")


def test_too_many_and_too_few() -> None:
    source = _theirs()
    with pytest.raises(InputError, match=r"extra\.weight \[2, 2\] for nothing"):
        convert_state_dict({**source, "extra.weight": torch.zeros(2, 2)}, _ours(), source_name="x")
    short = {name: tensor for name, tensor in source.items() if not name.startswith("fc")}
    with pytest.raises(InputError, match=r"nothing for 5\.weight \[2, 4\], nothing for 5\.bias"):
        convert_state_dict(short, _ours(), source_name="x")
    with pytest.raises(InputError, match=r"nothing for 0\.weight"):
        convert_state_dict({}, _ours(), source_name="x")


def test_at_most_five_are_named() -> None:
    source = {name: torch.zeros(*tensor.shape, 2) for name, tensor in _theirs().items()}
    with pytest.raises(InputError) as raised:
        convert_state_dict(source, _ours(), source_name="x")
    assert raised.value.what.count(" for ") == 5
    # 1 + 4 + 2 + 2 + 2 tensors beside the counter.
    assert raised.value.what.endswith("and 6 more")


def test_not_a_state_dict() -> None:
    with pytest.raises(InputError, match="'epoch' is not a tensor"):
        convert_state_dict({"epoch": 3}, _ours(), source_name="x")  # type: ignore[dict-item]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("cbl"), st.integers(1, 4)), min_size=1, max_size=8))
def test_renaming_round_trips(plan: list[tuple[str, int]]) -> None:
    """Any chain of convolutions, norms and linear layers survives a change of all names."""
    kinds = {"c": lambda n: nn.Conv2d(n, 2, 1), "b": nn.BatchNorm2d, "l": lambda n: nn.Linear(n, 3)}
    source = nn.Sequential(*(kinds[kind](size) for kind, size in plan))
    target = nn.Sequential(*(kinds[kind](size) for kind, size in plan))
    renamed = {
        f"backbone.features.{k.replace('.', '.x.')}": v for k, v in source.state_dict().items()
    }
    target.load_state_dict(convert_state_dict(renamed, target, source_name="x"))
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)
