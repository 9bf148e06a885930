"""`flyweight profile` with times: measured layers, the roofline, calibrations and their files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import CheckError
from flyweight.profiling import ceilings, stopwatch, torch_times
from flyweight.profiling.ceilings import Ceilings
from flyweight.profiling.device_model import DeviceModel, MeasuredProbe
from flyweight.profiling.probes import draft, grid
from tests.html_page import Page, refers_outside

MODEL = ("retinanet_snet", "--size", "64", "--classes", "1")
MEASURE = ("profile", *MODEL, "--measure", "torch", "--threads", "1")
FAST = Ceilings({"fp32": 1e6, "int8": 2e6}, 1e5, 1)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Ceilings]], None]:
    """Gives the machine the limits that are to be found; pauses are left out."""
    for module in (stopwatch, torch_times):
        monkeypatch.setattr(module, "PAUSE_S", 0.0)

    def found(measure: Callable[[], Ceilings]) -> None:
        monkeypatch.setattr(ceilings, "measure_ceilings", lambda **_: measure())

    return found


def test_measured_layers_make_up_the_run(
    flyweight: Callable[..., Any], limits: Callable[..., None], tmp_path: Path
) -> None:
    limits(lambda: FAST)
    page = tmp_path / "page.html"
    found = flyweight(*MEASURE, "--json", "--html", page).json["measured"]
    assert (found["runtime"], found["threads"]) == ("torch", 1)
    total = sum(each["milliseconds"] for each in found["layers"])
    assert found["layers_milliseconds"] == pytest.approx(total)
    assert 0 < total < 2 * found["profiled_run"]["milliseconds"]
    layers = {each["layer"] for each in found["layers"]}
    assert {each["layer"] for each in found["roofline"]} <= layers
    assert all(0 < each["share"] < 1 for each in found["roofline"])
    assert found["ceilings"]["gflops"] == FAST.gflops
    text = page.read_text(encoding="utf-8")
    assert not refers_outside(text)
    assert "Roofline in torch" in Page(text).text


def varying() -> Ceilings:
    raise CheckError("fp32 varies too much: stop them, or wait, and measure again")


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (varying, "fp32 varies too much"),
        (lambda: Ceilings({"fp32": 1e-6}, 1.0, 1), "the machine's limit was measured as 0.0"),
    ],
)
def test_no_roofline_from_nonsense_but_the_layers_stay(
    flyweight: Callable[..., Any],
    limits: Callable[..., None],
    tmp_path: Path,
    measure: Callable[[], Ceilings],
    words: str,
) -> None:
    limits(measure)
    page = tmp_path / "page.html"
    outcome = flyweight(*MEASURE, "--html", page)
    assert outcome.code == 0, outcome.err
    assert "its layers together" in outcome.out
    text = Page(page.read_text(encoding="utf-8")).text
    for shown in (outcome.out.splitlines(), text):
        (line,) = (line for line in shown if line.startswith("No roofline: "))
        assert words in line
        assert "measure again" in line


def test_a_missing_runtime_is_named(
    flyweight: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "flyweight.runtime.openvino_session", raising=False)
    monkeypatch.delitem(sys.modules, "flyweight.profiling.openvino_times", raising=False)
    for words in (
        ("--calibrate", tmp_path / "board.json", "--runtime", "openvino"),
        (*MODEL, "--measure", "openvino"),
    ):
        outcome = flyweight("profile", *words)
        assert outcome.code == 2
        assert outcome.err.splitlines()[-1].startswith("error: OpenVINO is not installed; pip")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibration that somebody sent: 5 µs an operator, 100 GFLOP/s, restarted in 0.25 ms."""
    measured = []
    for probe in grid()[:120]:
        operations = draft(probe).operations
        time = sum(0.005 + 2 * each.macs / 100e6 for each in operations)
        measured.append(MeasuredProbe(probe, time, 0.0, 0.25))
    machine = {"processor": "Cortex-A76", "cores": 4, "system": "Linux", "versions": {}}
    path = tmp_path_factory.mktemp("sent") / "board.json"
    DeviceModel("onnxruntime", 4, machine, tuple(measured)).save(path)
    return path


def test_a_prediction_says_of_which_device(flyweight: Callable[..., Any], board: Path) -> None:
    shown = flyweight("profile", *MODEL, "--device-model", board)
    assert shown.code == 0
    (line,) = (each for each in shown.out.splitlines() if each.startswith("predicted: "))
    device = (
        "Cortex-A76, 4 cores, Linux; onnxruntime in fp32 with 4 threads, 120 operators measured"
    )
    assert line.endswith(f" ms on {device}")
    found = flyweight("profile", *MODEL, "--device-model", board, "--json").json["predicted"]
    assert found["device"] == device
    assert sum(found["by_layer"].values()) + 0.25 <= found["milliseconds"]


@pytest.mark.parametrize("content", ["", "[1]", '{"format": "another tool\'s"}', "{"])
def test_what_is_no_calibration_is_refused(
    flyweight: Callable[..., Any], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(content)
    flyweight("profile", *MODEL, "--device-model", path).assert_refused("calibrat", "foreign.json")


def test_a_calibration_in_another_precision_is_refused(
    flyweight: Callable[..., Any], tmp_path: Path, board: Path
) -> None:
    path = tmp_path / "int8.json"
    path.write_text(json.dumps(json.loads(board.read_text()) | {"precision": "int8"}))
    flyweight("profile", *MODEL, "--device-model", path).assert_refused("int8", "fp32")


def test_a_calibration_says_what_it_is_of(flyweight: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    words = ("profile", "--calibrate", path, "--threads", "1", "--seconds", "0")
    assert "onnxruntime" in flyweight(*words).out
    found = flyweight(*words, "--json").json
    assert (found["runtime"], found["threads"], found["measured"]) == ("onnxruntime", 1, 0)
    assert found["device"].endswith("in fp32 with 1 threads, 0 operators measured")
    flyweight("profile", *MODEL, "--device-model", path).assert_refused("0 of at least 30")
