"""A calibration is kept, goes on where it ended, and belongs to one device."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.profiling import calibration
from flyweight.profiling.calibration import calibrate
from flyweight.profiling.device_model import DeviceModel
from flyweight.profiling.probes import Probe
from flyweight.profiling.stopwatch import Timing

PROBES: list[Probe] = [("dense", 8, 4, 3, 1), ("depthwise", 8, 4, 3, 1, 1), ("stem", 8, 16, 3)]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyweight.profiling.stopwatch.PAUSE_S", 0.0)
    monkeypatch.setattr("flyweight.profiling.stopwatch.BURST_S", 0.0)


def test_all_probes_are_timed_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    seen: list[tuple[int, int]] = []
    model = calibrate(
        path,
        runtime="onnxruntime",
        threads=1,
        probes=PROBES,
        progress=lambda done, count: seen.append((done, count)),
    )
    assert sorted(each.probe for each in model.measured) == sorted(PROBES)
    assert all(0 < each.milliseconds < 1000 for each in model.measured)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [each.probe for each in DeviceModel.load(path).measured] == [
        each.probe for each in model.measured
    ]
    assert model.machine["cores"] >= 1


def test_it_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "device.json"
    first = calibrate(path, runtime="onnxruntime", threads=1, probes=PROBES[:1])
    timed: list[Probe] = []

    def time_probe(probe: Probe, model: DeviceModel) -> Timing:
        timed.append(probe)
        return Timing(1.0, 0.1, 5)

    monkeypatch.setattr(calibration, "_time_probe", time_probe)
    second = calibrate(path, runtime="onnxruntime", threads=1, probes=PROBES)
    assert timed == PROBES[1:]
    assert second.measured[0].milliseconds == pytest.approx(first.measured[0].milliseconds, 1e-3)


def test_what_others_disturbed_is_timed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = iter([Timing(9.0, 0.0, 3, True), Timing(1.0, 0.0, 5), Timing(2.0, 0.0, 5)])
    monkeypatch.setattr(calibration, "_time_probe", lambda probe, model: next(timings))
    model = calibrate(tmp_path / "device.json", runtime="onnxruntime", threads=1, probes=PROBES[:2])
    assert {each.probe: each.milliseconds for each in model.measured} == {
        PROBES[1]: 1.0,
        PROBES[0]: 2.0,
    }


@pytest.mark.parametrize(("seconds", "kept"), [(None, 1), (60.0, 0)])
def test_a_machine_that_is_never_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None, kept: int
) -> None:
    monkeypatch.setattr(calibration, "_time_probe", lambda *_: Timing(9.0, 0.0, 3, True))
    path = tmp_path / "device.json"
    model = calibrate(path, runtime="onnxruntime", threads=1, probes=PROBES[:1], seconds=seconds)
    assert len(model.measured) == kept


def test_no_time_at_all_leaves_a_calibration_to_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    assert calibrate(path, runtime="onnxruntime", threads=1, seconds=0.0).measured == ()
    assert DeviceModel.load(path).measured == ()


@pytest.mark.parametrize("other", [{"runtime": "torch"}, {"threads": 2}])
def test_another_device_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    path = tmp_path / "device.json"
    given: dict[str, object] = {"runtime": "onnxruntime", "threads": 1}
    calibrate(path, probes=PROBES[:1], **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the file is of onnxruntime, 1 threads"):
        calibrate(path, **(given | other))  # type: ignore[arg-type]


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="abacus"):
        calibrate(tmp_path / "device.json", runtime="abacus")
