"""A device model fitted on a machine whose every time is known predicts what it has not seen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.models.detectors import build
from flyweight.profiling.device_model import DeviceModel, MeasuredProbe, fit_rates
from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.fusion import fused_into
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.probes import draft, grid
from flyweight.profiling.trace import trace_detector

RUNTIME = "openvino"
NOISE = 0.03


def true_milliseconds(cost: NetworkCost) -> float:
    """A machine of 100 GFLOP/s and 20 GB/s that takes 5 µs for every operator, and 50 for a run."""
    heads = fused_into(cost, runtime=RUNTIME)
    return 0.05 + sum(
        0.005 + 2 * each.macs / 100e6 + each.access_bytes / 20e6
        for index, each in enumerate(cost.operations)
        if heads[index] == index
    )


@pytest.fixture(scope="module")
def model() -> DeviceModel:
    random = np.random.default_rng(0)
    measured = []
    for probe in grid():
        noise = random.lognormal(0, NOISE)
        measured.append(MeasuredProbe(probe, round(true_milliseconds(draft(probe)) * noise, 5)))
    return DeviceModel(RUNTIME, 2, {"processor": "a synthetic one"}, tuple(measured))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ssdlite320_mobilenet_v3_large", {}),
        ("ssdlite", {"backbone": "shufflenet_v2", "size": 256}),
        ("retinanet_snet", {}),
        ("yolov4", {"backbone": "ghostnet", "size": 320}),
        ("ssd", {"backbone": "resnet18", "size": 192}),
    ],
)
def test_networks_of_the_zoo_are_predicted(
    model: DeviceModel, name: str, changes: dict[str, object]
) -> None:
    cost = trace_detector(build(name, classes=["a", "b"], **changes), folded=True)  # type: ignore[arg-type]
    prediction = model.predict(cost)
    assert prediction.milliseconds == pytest.approx(true_milliseconds(cost), rel=0.05)
    assert prediction.unknown == ()
    assert prediction.milliseconds == pytest.approx(
        sum(prediction.by_operation) + prediction.surroundings
    )


@pytest.mark.parametrize(
    ("channels", "written", "size", "kernel", "stride"),
    [(48, 200, 24, 1, 1), (100, 100, 17, 3, 1), (36, 72, 50, 3, 2), (300, 40, 9, 1, 1)],
)
def test_an_operation_is_predicted(
    model: DeviceModel, channels: int, written: int, size: int, kernel: int, stride: int
) -> None:
    made = Draft((1, channels, size, size))
    made.conv(made.conv(INPUT, channels), written, kernel=kernel, stride=stride, act="relu")
    cost = made.cost("two")
    second = cost.operations[1]
    expected = 0.005 + 2 * second.macs / 100e6 + second.access_bytes / 20e6
    prediction = model.predict(cost)
    assert prediction.by_operation[1] == pytest.approx(expected, rel=0.12)
    assert prediction.by_operation[2] == 0.0


def test_a_run_after_a_pause_takes_longer_by_as_much_as_probes_do(model: DeviceModel) -> None:
    # what is over before a pause's effect is has no more than a part of it
    restarted = tuple(
        replace(each, restart=0.4 if each.milliseconds >= 1 else 0.1) for each in model.measured
    )
    slow = replace(model, measured=restarted)
    cost = draft(("pointwise", 16, 16, 160, 2))
    assert model.restart == 0.0
    assert slow.predict(cost).milliseconds == pytest.approx(model.predict(cost).milliseconds + 0.4)


def test_norms_that_fold_cost_nothing(model: DeviceModel) -> None:
    detector = build("ssdlite320_mobilenet_v1", classes=["a"])
    with_norms = model.predict(trace_detector(detector))
    folded = model.predict(trace_detector(detector, folded=True))
    # but for the biases that folding adds
    assert with_norms.milliseconds == pytest.approx(folded.milliseconds, rel=0.005)


def test_an_operator_that_was_not_measured_costs_as_an_addition(model: DeviceModel) -> None:
    made = Draft((1, 32, 40, 40))
    made.add("sums_of_the_future", [INPUT])
    prediction = model.predict(made.cost("future"))
    assert prediction.unknown == ("sums_of_the_future",)
    added = Draft((1, 32, 40, 40))
    added.add("add", [INPUT])
    assert prediction.milliseconds == pytest.approx(model.predict(added.cost("sum")).milliseconds)


def test_disturbed_measurements_do_not_pull() -> None:
    works = [{"runs": 1.0, "macs": float(count)} for count in range(1, 41)]
    times = [0.5 + 0.25 * count for count in range(1, 41)]
    for index in (3, 17, 30):
        times[index] *= 3  # someone else used the machine
    rates = fit_rates(works, times)
    assert rates["runs"] == pytest.approx(0.5, rel=0.03)
    assert rates["macs"] == pytest.approx(0.25, rel=0.03)


def test_a_calibration_survives_its_file(model: DeviceModel, tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    model.save(path)
    again = DeviceModel.load(path)
    assert again == model
    assert again.rates == model.rates
    assert path.stat().st_size < 30_000


def test_a_calibration_that_has_only_begun_cannot_predict(model: DeviceModel) -> None:
    begun = DeviceModel(RUNTIME, 2, {}, model.measured[:5])
    with pytest.raises(InputError, match="5 of at least 30"):
        begun.predict(draft(model.measured[0].probe))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "flyweight-calibration-0"},
        {"runtime": "abacus"},
        {"threads": None},
        {"measured": [[["no such block", 1], 1.0, 0.0]]},
        {"measured": [[["dense", 16], 1.0, 0.0]]},
        {"measured": [[["dense", 16, 8, 3, 1], -1.0, 0.0]]},
        {"measured": [[["dense", 16, 8, 3, 1], math.nan, 0.0]]},
        {"measured": "fast"},
    ],
)
def test_a_damaged_file_is_refused(
    model: DeviceModel, tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "device.json"
    model.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"no calibration|damaged"):
        DeviceModel.load(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "device.json"
    path.write_text(content)
    with pytest.raises(InputError, match="calibration"):
        DeviceModel.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json"):
        DeviceModel.load(tmp_path / "missing.json")
