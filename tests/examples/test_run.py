"""The examples in C++, JavaScript and Python find the golden boxes, on ARM too.

What they need from elsewhere is fetched by `make examples`; here nothing is, unless
FLYWEIGHT_FETCH is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "examples" / "golden" / "check.py"
DETECT = ROOT / "build" / "examples" / "cpp" / "detect"
# of build.sh: something is missing here
MISSING = 3


def _build(example: str) -> None:
    """`examples/build.sh`; skips the test where the machine lacks something."""
    environment = {**os.environ, "PYTHON": sys.executable}
    if not os.environ.get("FLYWEIGHT_FETCH"):
        environment["OFFLINE"] = "1"
    built = _run(str(ROOT / "examples" / "build.sh"), example, env=environment)
    if built.returncode == MISSING:
        pytest.skip(f"{built.stderr.strip().splitlines()[-1]}; `make examples` fetches it")
    assert built.returncode == 0, built.stdout + built.stderr


def _run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)


def _assert_golden(*command: str) -> None:
    checked = _run(sys.executable, str(CHECK), *command)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_python_finds_the_golden_boxes() -> None:
    _assert_golden(sys.executable, "examples/python/detect.py")


@pytest.mark.skipif(os.name != "posix", reason="the example is built by a shell script")
def test_cpp_finds_the_golden_boxes() -> None:
    _build("cpp")
    _assert_golden(str(DETECT))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage"),
        (["examples/golden/shapes.onnx", "no.png"], "no.png"),
        (["examples/golden/wide.png", "examples/golden/wide.png"], "wide.png"),
    ],
)
def test_cpp_says_what_it_cannot_read(arguments: list[str], said: str) -> None:
    _build("cpp")
    ran = _run(str(DETECT), *arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert said in ran.stderr
    assert not ran.stdout


def test_javascript_finds_the_golden_boxes() -> None:
    _build("javascript")
    _assert_golden("node", "examples/javascript/detect.js")


def test_the_check_fails_with_another_model(tmp_path: Path) -> None:
    """What every test here relies on: a wrong answer does not pass."""
    wrong = tmp_path / "detect.py"
    wrong.write_text("print('{\"detections\": []}')\n", encoding="utf-8")
    checked = _run(sys.executable, str(CHECK), sys.executable, str(wrong))
    assert checked.returncode == 1
    assert "expected" in checked.stdout


@pytest.mark.slow
def test_an_emulated_arm_board_finds_the_golden_boxes() -> None:
    if not shutil.which("dpkg"):
        pytest.skip("the emulated board is made of Debian's packages")
    ready = (ROOT / "build" / "examples" / "arm64" / "site").is_dir()
    if not (ready or os.environ.get("FLYWEIGHT_FETCH")):
        pytest.skip("run examples/arm/run.sh once, or set FLYWEIGHT_FETCH, to fetch the board")
    ran = _run(
        str(ROOT / "examples" / "arm" / "run.sh"), env={**os.environ, "PYTHON": sys.executable}
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
