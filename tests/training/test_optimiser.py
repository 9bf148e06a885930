from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.training.freeze import find_backbone, freeze_backbone
from flyweight.training.optimiser import clip_gradients, make_optimizer, parameter_groups
from flyweight.training.recipe import Recipe

NewDetector = Callable[..., Detector]


def test_norms_and_biases_have_no_decay(new_detector: NewDetector) -> None:
    detector = new_detector()
    groups = parameter_groups(detector, Recipe(weight_decay=0.1))
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    seen = 0
    for module in detector.modules():
        for name, parameter in module.named_parameters(recurse=False):
            wanted = isinstance(module, nn.Conv2d | nn.Linear) and name == "weight"
            assert (id(parameter) in decayed) == wanted
            seen += 1
    assert seen == sum(len(group["params"]) for group in groups)


def test_backbone_has_its_own_rate(new_detector: NewDetector) -> None:
    detector = new_detector()
    groups = parameter_groups(detector, Recipe(lr=0.1, backbone_lr_scale=0.25))
    backbone = find_backbone(detector)
    assert backbone is not None
    inside = {id(parameter) for parameter in backbone.parameters()}
    for group in groups:
        expected = {0.025} if id(group["params"][0]) in inside else {0.1}
        assert {group["lr"]} == expected
        assert len({id(p) in inside for p in group["params"]}) == 1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_step_is_the_plain_one(new_detector: NewDetector, name: str) -> None:
    recipe = Recipe(optimizer=name, lr=0.01, weight_decay=0.1)
    fused, plain = new_detector(), new_detector()
    ours = make_optimizer(fused, recipe)
    groups = parameter_groups(plain, recipe)
    theirs: torch.optim.Optimizer
    if name == "sgd":
        theirs = torch.optim.SGD(groups, lr=0.01, momentum=0.9, foreach=False)
    else:
        theirs = torch.optim.AdamW(groups, lr=0.01, foreach=False)
    assert ours.defaults["fused"]
    for step in range(3):
        for detector, optimizer in ((fused, ours), (plain, theirs)):
            torch.manual_seed(step)
            for parameter in detector.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_clipping_scales_the_whole_gradient() -> None:
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for parameter in weights:
        parameter.grad = torch.full_like(parameter, 4.0)
    clip_gradients(weights, 2.0)
    norm = torch.cat([p.grad.flatten() for p in weights if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(2.0, rel=1e-4)
    clip_gradients(weights, 10.0)
    assert weights[0].grad is not None
    assert torch.allclose(weights[0].grad, torch.full((3,), 2 / 7**0.5), rtol=1e-4)


def test_frozen_stages(new_detector: NewDetector) -> None:
    detector = new_detector()
    frozen = freeze_backbone(detector, 2)
    names = [name for name, p in detector.named_parameters() if not p.requires_grad]
    assert frozen
    assert names
    assert all(name.startswith("model.backbone.layers.") for name in names)
    # stage 2 ends before the first layer of stride 8
    strides = detector.model.get_submodule("backbone.layers").strides
    assert {name.split(".")[3] for name in names} == {n for n, s in strides.items() if s <= 4}
    assert sum(len(group["params"]) for group in parameter_groups(detector, Recipe())) == sum(
        parameter.requires_grad for parameter in detector.parameters()
    )


def test_more_stages_than_there_are(new_detector: NewDetector) -> None:
    with pytest.raises(InputError, match="5 stages"):
        freeze_backbone(new_detector(), 6)
