"""Pruning: the network without some channels is the network in which they are zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flyweight.compression.fold import fold, unfolded_norms
from flyweight.compression.prune import PrunedDetector, prune
from flyweight.compression.prune_groups import ChannelGroup, find_groups
from flyweight.compression.prune_importance import measure_saliencies, relative_scores
from flyweight.compression.prune_target import Target
from flyweight.compression.prune_widths import kept_channels, with_channels
from flyweight.core.errors import InputError
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.classes import replace_classes
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.layers.narrowing import Narrowable, channels_of
from flyweight.profiling.device_model import DeviceModel
from flyweight.profiling.trace import trace_detector

Build = Callable[..., Detector]

# Every family, and every way in which channels meet: residuals, squeeze-excite, ghost modules,
# channel shuffles, cross stage partial blocks, concatenations, shared towers, GroupNorm, L2 norm.
QUICK: list[tuple[str, dict[str, Any]]] = [
    ("ssdlite", {"backbone": "mobilenet_v3_small"}),
    ("ssdlite", {"backbone": "ghostnet", "neck": "fpn", "default_boxes": (((0.5, 0.5),),) * 3}),
    ("ssdlite", {"backbone": "shufflenet_v1_g1"}),
    ("ssdlite", {"backbone": "shufflenet_v2"}),
    ("ssd", {"backbone": "squeezenet1_1"}),
    ("retinanet_snet", {}),
    ("retinanet", {"neck": "pan"}),
    ("faster_rcnn", {}),
    ("yolov3", {}),
    ("yolov4", {"backbone": "cspdarknet53", "width": 0.125}),
]
SLOW: list[tuple[str, dict[str, Any]]] = [
    ("ssdlite", {"backbone": "mobilenet_v2"}),
    ("ssdlite", {"backbone": "shufflenet_v1_g3"}),
    ("mobilenet_ssd300", {}),
    ("ssd300_vgg16", {}),
    ("retinanet_resnet50_fpn", {}),
    ("faster_rcnn_vgg16", {}),
    ("yolov3_darknet53", {}),
]
EVERY = [
    *(pytest.param(*each, id="-".join(map(str, (each[0], *each[1].values())))) for each in QUICK),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW),
]


# Most channels of grouped units stay: a grouped convolution or a shuffle deals them out.
GROUPED = "shufflenet_v1_g3"


def outputs_of(detector: Detector) -> tuple[Tensor, Tensor]:
    """Boxes `[1, A, 4]` pixels and scores `[1, A, C]` of one noisy picture."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(
        0, 256, (1, *detector.config.size_hw, 3), dtype=torch.uint8, generator=rng
    )
    with torch.no_grad():
        boxes, scores = detector.eval()(images)
    return boxes, scores


def some_units(groups: list[ChannelGroup]) -> list[Tensor]:
    """Of each group two fifths of its units, but never all, bool `[U]`."""
    rng = torch.Generator().manual_seed(3)
    gone = [torch.rand(group.units, generator=rng) < 0.4 for group in groups]
    for each in gone:
        each[0] = False
    return gone


def macs_of(detector: Detector) -> int:
    return trace_detector(detector, folded=True).macs


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_channels_that_are_zero_go_without_a_trace(
    trained: Build, name: str, options: dict[str, Any]
) -> None:
    detector = trained(name, **options)
    before = outputs_of(detector)
    groups, _ = find_groups(detector)
    kept = kept_channels(groups, some_units(groups))
    weights = detector.model.state_dict()
    for (layer, side), stays in kept.items():
        for part in ("weight", "bias", "scale"):
            if side != "in" and f"{layer}.{part}" in weights:
                weights[f"{layer}.{part}"][~stays] = 0
    assert any(
        (now - then).abs().max() > 1e-3
        for now, then in zip(outputs_of(detector), before, strict=True)
    ), "these channels do not matter, so that nothing is tested"
    smaller = with_channels(detector, kept)
    limit = 0.98 if options.get("backbone") == GROUPED else 0.85
    assert macs_of(smaller) < limit * macs_of(detector)
    for found, wanted in zip(outputs_of(smaller), outputs_of(detector), strict=True):
        assert torch.isfinite(wanted).all()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_pruned_detector_is_a_detector_like_any_other(
    trained: Build, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    detector = trained(name, **options)
    before = outputs_of(detector)
    share = 0.95 if options.get("backbone") == GROUPED else 0.75
    pruned = prune(detector, Target(share=share), multiple=2)
    assert all(map(torch.equal, outputs_of(detector), before))
    check_macs(detector, pruned)
    smaller = pruned.detector
    boxes, scores = outputs_of(smaller)
    assert (boxes.shape, scores.shape) == (before[0].shape, before[1].shape)
    check_file(smaller, tmp_path / "pruned.safetensors")
    check_folded(smaller)
    check_training_step(smaller, tmp_path / "trained.safetensors")
    again = prune(smaller, Target(share=1 - 0.4 * (1 - share)), multiple=2)
    check_macs(smaller, again)
    assert len(again.detector.lineage["pruned"]) == 2


def check_macs(detector: Detector, pruned: PrunedDetector) -> None:
    """The target is met, by no more than the last step, as two others count."""
    assert pruned.before == macs_of(detector)
    assert pruned.after == macs_of(pruned.detector)
    limit = pruned.target.limit(pruned.before)
    assert limit - pruned.step < pruned.after <= limit
    if not hasattr(detector.model, "roi_head"):
        for each, macs in ((detector, pruned.before), (pruned.detector, pruned.after)):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                each.model(torch.zeros(1, 3, *each.config.size_hw))
            assert counter.get_total_flops() == 2 * macs


def check_file(detector: Detector, path: Path) -> None:
    """It is the same after a file, down to the bit."""
    checkpoint.save(detector, path)
    loaded = checkpoint.load(path)
    assert loaded.config == detector.config
    assert all(map(torch.equal, outputs_of(loaded), outputs_of(detector)))
    for part in ("backbone", "neck"):
        now: Any = loaded.model.get_submodule(part)
        wanted: Any = detector.model.get_submodule(part)
        assert now.feature_info == wanted.feature_info


def check_folded(detector: Detector) -> None:
    folded = fold(detector)
    assert not unfolded_norms(folded)
    again = checkpoint.rebuild(folded.manifest())
    again.load_state_dict(folded.state_dict())
    for found, wanted in zip(outputs_of(again), outputs_of(detector), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def check_training_step(detector: Detector, path: Path) -> None:
    """Every weight that is left gets a gradient; what is trained is saved and loaded."""
    targets = Targets.from_lists(
        [torch.tensor([[8.0, 8.0, 40.0, 48.0]])] * 2, [torch.tensor([1])] * 2
    )
    images = torch.randint(0, 256, (2, *detector.config.size_hw, 3), dtype=torch.uint8)
    losses = detector.eval().loss(images, targets)
    optimiser = torch.optim.SGD(detector.parameters(), lr=1e-6)
    torch.stack(list(losses.values())).sum().backward()
    weights = [each for each in detector.parameters() if each.requires_grad]
    assert all(each.grad is not None and each.grad.isfinite().all() for each in weights)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    check_file(detector, path)


def test_classes_and_sizes_change_as_ever(trained: Build) -> None:
    pruned = prune(trained("ssdlite"), Target(share=0.6), multiple=2).detector
    renamed = replace_classes(pruned, ("b", "new"))
    assert outputs_of(renamed)[1].shape[-1] == 2
    assert macs_of(renamed) < macs_of(pruned)
    assert pruned.at_size((96, 64)).config.pruned == pruned.config.pruned


def test_widths_are_multiples_and_no_layer_is_starved(trained: Build) -> None:
    detector = trained("ssdlite", width=0.5)
    pruned = prune(detector, Target(share=0.5), least=0.25).detector
    built = dict(detector.model.named_modules())
    last = [name for name in built if name.startswith("head.") and name.endswith(".output")]
    for name, layer in pruned.model.named_modules():
        if isinstance(layer, Narrowable) and name not in last:
            now, before = channels_of(layer), channels_of(cast(Any, built[name]))
            assert all(new == old or new % 8 == 0 for new, old in zip(now, before, strict=True))
            assert all(new >= old / 4 for new, old in zip(now, before, strict=True))


def test_the_same_share_of_every_layer(trained: Build) -> None:
    detector = trained("retinanet")
    pruned = prune(detector, Target(share=0.6), scope="layer", multiple=2).detector
    built = dict(detector.model.named_modules())
    shares = [
        after / channels_of(cast(Any, built[name]))[1]
        for name, _, after in pruned.config.pruned
        if after is not None and channels_of(cast(Any, built[name]))[1] >= 32
    ]
    assert max(shares) - min(shares) <= 3 / 32


def test_to_parameters(trained: Build) -> None:
    detector = trained("ssdlite")
    pruned = prune(detector, Target(amount=150_000, unit="params"), multiple=2)
    count = sum(each.numel() for each in pruned.detector.parameters())
    assert count == pruned.after
    assert 150_000 - pruned.step < count <= 150_000


def test_by_what_is_saved_the_expensive_layers_lose_more(trained: Build) -> None:
    detector = trained("retinanet_snet")
    plain, saving = (
        prune(detector, Target(share=0.6), multiple=4, by_saving=by_saving)
        for by_saving in (False, True)
    )
    assert saving.after <= saving.target.limit(saving.before)
    assert saving.channels[0] < plain.channels[0]


@pytest.mark.slow  # each try is traced anew
def test_to_milliseconds_by_a_device_model(trained: Build) -> None:
    # A device on which time is bytes moved, not arithmetic.
    device = SimpleNamespace(
        runtime="none",
        machine={},
        predict=lambda cost: SimpleNamespace(milliseconds=cost.access_bytes / 1e6),
    )
    target = Target(share=0.8, unit="ms", device=cast(DeviceModel, device))
    pruned = prune(trained("ssdlite"), target, multiple=4, by_saving=True)
    cost = trace_detector(pruned.detector, folded=True).access_bytes / 1e6
    assert pruned.after == pytest.approx(cost)
    assert pruned.after <= 0.8 * pruned.before


def test_what_matters_least_goes_first(trained: Build) -> None:
    """By hand: a layer whose channels have weights of known size."""
    detector = trained("ssdlite", backbone="mobilenet_v1")
    stem: Any = detector.model.get_submodule("backbone.layers.stem")
    channels = stem.conv.out_channels
    with torch.no_grad():
        for each in detector.model.parameters():
            each.fill_(0.01)
        stem.conv.weight.copy_(torch.arange(channels).view(-1, 1, 1, 1).expand_as(stem.conv.weight))
        stem.norm.weight.copy_(torch.arange(channels).flip(0))
    group = next(
        each
        for each in find_groups(detector)[0]
        if ("backbone.layers.stem.conv", "out") in each.unit_of
    )
    units = group.unit_of["backbone.layers.stem.conv", "out"]
    assert relative_scores(group, "magnitude")[units].argsort().tolist() == list(range(channels))
    assert relative_scores(group, "bn_scale")[units].argmin() == channels - 1


def test_taylor_keeps_what_the_loss_depends_on(trained: Build) -> None:
    detector = trained("ssdlite", backbone="mobilenet_v1")
    images, targets = labelled_batch(0)
    pruned = prune(
        detector, Target(share=0.7), importance="taylor", multiple=2, batches=[(images, targets)]
    )
    assert all(each.grad is None for each in detector.parameters())
    plain = prune(detector, Target(share=0.7), multiple=2)
    with torch.no_grad():
        before, by_taylor, by_size = (
            torch.stack(list(each.eval().loss(images, targets).values())).sum()
            for each in (detector, pruned.detector, plain.detector)
        )
    assert abs(by_taylor - before) < abs(by_size - before)
    with pytest.raises(InputError, match="labelled images"):
        prune(detector, Target(share=0.7), importance="taylor")


def test_saliency_is_the_derivative_by_a_gate(trained: Build) -> None:
    """Against autograd, with a factor of 1 on every channel behind a norm and behind a layer."""
    detector = trained("ssdlite", backbone="mobilenet_v1").eval()
    names = ("backbone.layers.stem.norm", "head.classification.levels.0.output")
    gates: dict[str, Tensor] = {}

    def gate(name: str) -> Any:
        def hook(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
            return output * gates[name].view(1, -1, 1, 1)

        return hook

    modules = dict(detector.model.named_modules())

    batches = [labelled_batch(seed) for seed in range(3)]
    found = measure_saliencies(detector, batches)
    expected = {name: torch.zeros(len(found[name])) for name in names}
    hooks = [modules[name].register_forward_hook(gate(name)) for name in names]
    for images, targets in batches:
        gates |= {name: torch.ones(len(found[name]), requires_grad=True) for name in names}
        torch.stack(list(detector.loss(images, targets).values())).sum().backward()
        for name in names:
            expected[name] += cast(Tensor, gates[name].grad).square()
    for hook in hooks:
        hook.remove()
    for name in names:
        torch.testing.assert_close(found[name].float(), expected[name], rtol=1e-3, atol=1e-9)


def labelled_batch(seed: int) -> tuple[Tensor, Targets]:
    """Two noise images of 64 pixels with a box each."""
    numbers = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=numbers)
    box = torch.tensor([[8.0, 8.0, 40.0, 48.0]]) + 4 * seed
    return images, Targets.from_lists([box] * 2, [torch.tensor([1])] * 2)


@pytest.mark.parametrize(
    "row",
    [
        ("backbone.layers.nowhere.conv", 8, 8),
        ("backbone.layers.stem.conv", 3, 0),
        ("backbone.layers.stem.conv", 3, -8),
        ("backbone.layers.stem.conv", 3, 10**9),
        ("backbone.layers.stem.conv", 3, 4),  # the next layer still wants all
        ("backbone.layers.stem.conv", 3, True),
        ("backbone.layers.stem.norm", 4, 4),
        ("backbone.layers.stem.conv", 3),
        (["a"], 3, 4),
        "stem",
        7,
    ],
)
def test_a_table_that_cannot_be(trained: Build, row: Any) -> None:
    manifest = trained("ssdlite").manifest()
    with pytest.raises(InputError):
        checkpoint.rebuild(replace(manifest, model=manifest.model | {"pruned": (row,)}))


def test_a_table_that_does_not_fit_the_tensors(trained: Build, tmp_path: Path) -> None:
    detector = trained("ssdlite")
    pruned = prune(detector, Target(share=0.8), multiple=2).detector
    detector.config = pruned.config
    checkpoint.save(detector, tmp_path / "wrong.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        checkpoint.load(tmp_path / "wrong.safetensors")


def test_targets_that_cannot_be(trained: Build) -> None:
    for wrong in (
        {"share": 0.0},
        {"share": 1.5},
        {"amount": -1.0},
        {},
        {"share": 0.5, "amount": 3.0},
        {"share": 0.5, "unit": "ms"},
        {"share": 0.5, "unit": "watts"},
    ):
        with pytest.raises(InputError):
            Target(**cast(Any, wrong))
    detector = trained("ssdlite")
    with pytest.raises(InputError, match="cannot be pruned to"):
        prune(detector, Target(amount=1.0))
    for option in ({"importance": "beauty"}, {"scope": "all"}, {"multiple": 0}, {"least": 2.0}):
        with pytest.raises(InputError):
            prune(detector, Target(share=0.5), **cast(Any, option))
    everything = prune(detector, Target(share=1.0)).detector
    assert everything.config.pruned == ()


def test_a_layer_of_an_unknown_kind_is_left_alone(trained: Build) -> None:
    """Shuffled channels stay: what is pruned of a ShuffleNet is inside its units."""
    groups, network = find_groups(trained("ssdlite", backbone="shufflenet_v2"))
    giving = {name for group in groups for name, side in group.unit_of if side == "out"}
    units = [name for name in giving if ".branch." in name and "backbone" in name]
    assert any(".enter." in name for name in units)
    assert not any(".leave." in name or ".project." in name for name in units)
    assert all(isinstance(network.get_submodule(name), nn.Conv2d) for name in units)
