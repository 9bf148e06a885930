"""The command line as a process: streams, exit codes, speed of the start, what is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flyweight.cli.main import main
from flyweight.cli.output import figure, plain, result


def run_process(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flyweight", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_is_quick_and_lists_every_verb() -> None:
    fastest = 99.0
    for _ in range(3):
        start = time.perf_counter()
        ended = run_process("--help")
        fastest = min(fastest, time.perf_counter() - start)
        assert ended.returncode == 0
    for verb in ("demo", "models", "data", "train", "eval", "predict", "export", "bench"):
        assert f" {verb} " in ended.stdout
    # half a second on a free machine; others may be using this one
    assert fastest < 2


def test_no_verb_is_imported_with_torch_or_a_runtime() -> None:
    code = (
        "import sys, flyweight.cli.main; "
        "heavy = {'torch', 'onnxruntime', 'openvino', 'cv2', 'numpy', 'onnx', 'lightning'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"


def test_predict_needs_no_torch(tiny_onnx: Path, picture: Path) -> None:
    code = (
        "import sys\n"
        "from flyweight.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    words = ("predict", str(tiny_onnx), str(picture), "--json")
    command = [sys.executable, "-c", code, *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert len(json.loads(ended.stdout)["images"]) == 1
    assert ended.stderr.splitlines()[-1] == "False"


def test_debug_shows_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", "stats", "no-such-folder", "--debug"])
    assert ended.value.code == 2
    shown = capfd.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("words", [[], ["data"]])
def test_without_a_verb_the_help_is_shown(
    capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capfd.readouterr()
    assert ended.value.code == 0
    assert "Usage" in out + err
    assert "error:" not in out + err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from flyweight import __version__

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_a_package_that_is_missing_is_named_with_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from flyweight.cli.main import main; main(['models'])"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("error: this needs the package 'torch'")
    assert "pip install 'flyweight[train]'" in ended.stderr


def test_a_fault_of_our_own_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("flyweight.data.formats.available_splits", break_down)
    with pytest.raises(SystemExit) as ended:
        main(["data", "stats", "anywhere"])
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("failed: unexpected ZeroDivisionError: division by zero")
    assert "--debug" in err


def test_ctrl_c_in_any_verb_is_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flyweight.data.formats.available_splits", stop)
    with pytest.raises(SystemExit) as ended:
        main(["data", "stats", "anywhere"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_only_the_result_reaches_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    with result(as_json=True) as show:
        print("a library says hello")
        show({"AP": float("nan"), "path": Path("x"), "array": np.arange(2)}, lambda console: None)
    out, err = capfd.readouterr()
    assert json.loads(out) == {"AP": None, "path": "x", "array": [0, 1]}
    assert err == "a library says hello\n"


def test_native_code_cannot_write_into_the_json() -> None:
    code = (
        "import os\n"
        "from flyweight.cli.output import result\n"
        "with result(as_json=True) as show:\n"
        "    os.write(1, b'from C\\n')\n"
        "    show({'a': 1}, lambda console: None)"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ('{"a": 1}\n', "from C\n")


def test_a_failure_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    def fail_after_showing() -> None:
        with result(as_json=True) as show:
            show({"a": 1}, lambda console: None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_showing()
    assert capsys.readouterr().out == ""


def test_plain_values() -> None:
    value = {"a": (np.float32(0.5), np.int64(2)), 3: [float("inf")], "none": None, "yes": True}
    assert plain(value) == {"a": [0.5, 2], "3": [None], "none": None, "yes": True}
    assert figure(None) == figure(float("nan")) == "–"
    assert figure(0.12345) == "0.123"
