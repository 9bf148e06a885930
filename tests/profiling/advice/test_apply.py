"""Advice on real detectors: its price is the difference of two traces, and it cures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.data.voc import load_voc
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.preset_file import write_preset
from flyweight.models.detectors.zoo import ZOO, build, preset_of
from flyweight.profiling.advice.advice import Price, price_of
from flyweight.profiling.advice.anchors import anchors, small_objects
from flyweight.profiling.advice.apply import apply, improve
from flyweight.profiling.advice.context import Target, context_of, other_backbone
from flyweight.profiling.advice.depth import depth
from flyweight.profiling.advice.equal_channels import equal_channels
from flyweight.profiling.advice.first_layer import first_layer
from flyweight.profiling.advice.fragmentation import fragmentation
from flyweight.profiling.advice.grouping import grouping
from flyweight.profiling.advice.int8_activations import int8_activations
from flyweight.profiling.advice.kernels import pointwise_head, separable_convolutions
from flyweight.profiling.advice.multiples_of_8 import multiples_of_8
from flyweight.profiling.advice.normalisation import norms_that_fold, small_batches
from flyweight.profiling.advice.strides import last_map
from flyweight.profiling.config_cost import empty_detector
from flyweight.profiling.trace import trace_detector
from tests.profiling.advice.hand_made import BytesTakeTime

SLOW = pytest.mark.slow
LATENCY = BytesTakeTime()


def preset(name: str, **fields: Any) -> Config:
    config: Config = ZOO[name](num_classes=3, **fields)
    return config


# A rule, a detector that breaks it, and what it is made for.
CASES = [
    pytest.param(grouping, preset("ssdlite", backbone="shufflenet_v1_g8"), Target(), id="grouping"),
    pytest.param(
        multiples_of_8, preset("ssdlite", backbone="mobilenet_v1", width=0.35), Target(), id="by_8"
    ),
    pytest.param(
        separable_convolutions, preset("ssd", width=0.5), Target(), id="separable_convolutions"
    ),
    pytest.param(pointwise_head, preset("ssd", width=0.5), Target(), id="pointwise_head"),
    pytest.param(last_map, preset("ssdlite320_mobilenet_v1"), Target(), id="last_map"),
    pytest.param(last_map, preset("retinanet_snet", size_hw=(1280, 1280)), Target(), id="one_more"),
    pytest.param(small_batches, preset("ssd"), Target(batch_size=4), id="small_batches"),
    pytest.param(
        norms_that_fold, preset("retinanet_snet"), Target(batch_size=32), id="norms_that_fold"
    ),
    pytest.param(
        int8_activations, preset("ssdlite320_mobilenet_v3_small"), Target(precision="int8"),
        marks=SLOW, id="int8_activations",
    ),
    pytest.param(
        first_layer, preset("ssdlite", backbone="squeezenet1_0"), Target(), marks=SLOW, id="first"
    ),
    pytest.param(fragmentation, preset("yolov4"), Target(), marks=SLOW, id="fragmentation"),
    pytest.param(
        multiples_of_8, preset("ssdlite", backbone="shufflenet_v2"), Target(), marks=SLOW,
        id="by_8_and_width",
    ),
    pytest.param(
        equal_channels, preset("ssdlite320_mobilenet_v2"), Target(), marks=SLOW, id="equal_channels"
    ),
    pytest.param(depth, preset("ssdlite320_mobilenet_v2"), Target(), marks=SLOW, id="depth"),
]  # fmt: skip


def figures(config: Config) -> Price:
    """Traced without the cache that the rules share."""
    return price_of(trace_detector(empty_detector(config), folded=True), LATENCY)


@pytest.mark.parametrize(("rule", "config", "target"), CASES)
def test_a_change_costs_what_two_traces_say_and_cures(
    rule: Any, config: Config, target: Target
) -> None:
    offered = [
        each
        for each in rule(context_of(config, target=target, latency=LATENCY))
        if each.fields and each.layers
    ]
    assert offered
    advice = offered[0]
    assert advice.rebuilt
    changed = apply(advice, config)
    assert advice.saving == figures(config) - figures(changed)
    after = rule(context_of(changed, target=target, latency=LATENCY))
    assert not set(advice.layers) & {layer for each in after for layer in each.layers}


def test_advice_without_a_field_cannot_be_applied() -> None:
    config = preset("ssd300_vgg16")
    found = separable_convolutions(context_of(config))
    advice = next(each for each in found if not each.fields)
    with pytest.raises(InputError, match="no field of the config"):
        apply(advice, config)


def test_anchors_that_miss_a_class_are_fitted(bccd_dir: Path) -> None:
    config = preset("ssd", size_hw=(160, 160), width=0.25)
    context = context_of(config, dataset=load_voc(bccd_dir, "train"))
    (advice,) = anchors(context)
    assert set(advice.fields) == {"default_boxes"}
    assert advice.serves == "accuracy"
    changed = apply(advice, config)
    again = anchors(context_of(changed, dataset=context.dataset))
    assert not any(each.fields for each in again)


def test_objects_below_a_cell_want_a_larger_input(bccd_dir: Path) -> None:
    dataset = load_voc(bccd_dir, "train")
    small = context_of(preset("ssd", size_hw=(64, 64), width=0.25), dataset=dataset)
    (advice,) = small_objects(small)
    assert advice.saving.macs < 0
    config = apply(advice, small.config)  # type: ignore[arg-type]
    assert config.size_hw[0] > 64
    assert small_objects(context_of(config, dataset=dataset)) == []
    assert small_objects(context_of(preset("ssd", width=0.25), dataset=dataset)) == []


def test_improve_carries_out_what_saves_and_leaves_the_backbone() -> None:
    rules = (grouping, separable_convolutions, pointwise_head, last_map)
    config = preset("ssd", backbone="mobilenet_v1", width=0.25)
    context = context_of(config)
    improved = improve(context, rules=rules)
    assert [each.rule for each in improved.applied] == [
        "separable_convolutions", "separable_convolutions", "last_map",
    ]  # fmt: skip
    assert improved.saving == price_of(context.cost) - price_of(context_of(improved.config).cost)
    assert improved.saving.macs > 0
    assert improved.config.backbone == "mobilenet_v1"


def test_improve_changes_the_backbone_for_who_asks() -> None:
    context = context_of(preset("ssdlite", backbone="shufflenet_v1_g8"), latency=LATENCY)
    assert improve(context, rules=(grouping,)).config.backbone == "shufflenet_v1_g1"


def test_another_backbone_keeps_the_options_that_it_takes() -> None:
    config = preset("mobilenet_ssd300")
    assert other_backbone(config, "darknet53") == {"backbone": "darknet53"}
    assert other_backbone(config, "resnet18")["backbone_options"] == ()
    tail = preset("ssdlite320_mobilenet_v3_small", reduced_tail=True)
    assert other_backbone(tail, "mobilenet_v2", width=0.5) == {
        "backbone": "mobilenet_v2",
        "reduced_tail": False,
        "width": 0.5,
    }


def test_applied_advice_survives_a_preset_file(tmp_path: Path) -> None:
    config = preset("ssdlite320_mobilenet_v1", width=0.35)
    (advice,) = multiples_of_8(context_of(config))
    changed = apply(advice, config)
    write_preset(preset_of(changed), tmp_path / "new.yaml")
    assert build(str(tmp_path / "new.yaml"), classes=["a", "b", "c"]).config == changed
