"""What runs inside what, by hand."""

from __future__ import annotations

import pytest

from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.fusion import fused_into

FUSING = ("onnxruntime", "openvino")


@pytest.mark.parametrize("runtime", FUSING)
def test_norm_and_activation_run_inside_their_convolution(runtime: str) -> None:
    made = Draft((1, 8, 4, 4))
    conv = made.conv(INPUT, 8)
    made.add("relu6", [made.add("batch_norm", [conv])])
    assert fused_into(made.cost("chain"), runtime=runtime) == (0, 0, 0)


def test_torch_runs_everything_by_itself() -> None:
    made = Draft((1, 8, 4, 4))
    made.add("relu", [made.add("batch_norm", [made.conv(INPUT, 8)])])
    assert fused_into(made.cost("chain"), runtime="torch") == (0, 1, 2)


@pytest.mark.parametrize("runtime", FUSING)
def test_the_later_of_two_convolutions_takes_the_sum_and_what_follows(runtime: str) -> None:
    made = Draft((1, 8, 4, 4))
    first = made.conv(INPUT, 8)
    second = made.conv(INPUT, 8)
    made.add("relu", [made.add("add", [first, second])])
    assert fused_into(made.cost("block"), runtime=runtime) == (0, 1, 1, 1)


@pytest.mark.parametrize("runtime", FUSING)
def test_what_two_operations_read_must_be_written(runtime: str) -> None:
    made = Draft((1, 8, 4, 4))
    conv = made.conv(INPUT, 8)
    made.add("mul", [made.add("relu", [conv]), conv])
    assert fused_into(made.cost("gate"), runtime=runtime) == (0, 1, 2)


@pytest.mark.parametrize("runtime", FUSING)
def test_an_output_of_the_network_must_be_written(runtime: str) -> None:
    made = Draft((1, 8, 4, 4))
    conv = made.conv(INPUT, 8)
    relu = made.add("relu", [conv])
    assert fused_into(made.cost("outputs", outputs=[conv, relu]), runtime=runtime) == (0, 1)


@pytest.mark.parametrize("runtime", FUSING)
def test_a_convolution_takes_one_sum(runtime: str) -> None:
    made = Draft((1, 8, 4, 4))
    pooled = made.pool("max_pool2d", INPUT, kernel=3, stride=1)
    total = made.add("add", [pooled, made.conv(INPUT, 8)])
    made.add("add", [total, pooled])
    assert fused_into(made.cost("sums"), runtime=runtime) == (0, 1, 1, 3)


@pytest.mark.parametrize("runtime", FUSING)
def test_sums_of_a_map_and_a_vector_and_pooled_maps_run_by_themselves(runtime: str) -> None:
    made = Draft((1, 8, 4, 4))
    vector = made.add("global_avg_pool", [INPUT], (1, 8, 1, 1))
    gate = made.conv(vector, 8)
    made.add("relu", [made.add("add", [INPUT, gate])])
    assert fused_into(made.cost("gate"), runtime=runtime) == (0, 1, 2, 3)


def test_only_openvino_takes_silu_in() -> None:
    made = Draft((1, 8, 4, 4))
    made.conv(INPUT, 8, act="silu")
    assert fused_into(made.cost("silu"), runtime="openvino") == (0, 0)
    assert fused_into(made.cost("silu"), runtime="onnxruntime") == (0, 1)
