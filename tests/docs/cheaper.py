"""All that the tests change or leave out of what the pages say. Nothing else differs.

What is costly is made small: fewer epochs, smaller inputs, fewer trials. Names of models, files and
all other options stay as the page has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec

from flyweight.web_page.onnxruntime_web import find_onnxruntime_web

# verb → option → value in place of the page's, or added where the page gives none
OPTIONS: dict[str, dict[str, str]] = {
    "train": {"--epochs": "1", "--size": "64", "--batch": "4", "--workers": "0"},
    "pretrain": {"--epochs": "1", "--size": "32", "--batch": "4", "--workers": "0"},
    "compress": {
        "--fine-tune": "1", "--qat": "1", "--repeats": "1", "--prune-rounds": "1",
        "--importance-images": "4",
    },
    "design": {"--trials": "6", "--count": "1"},
    "bench": {"--repeats": "2"},
    # a calibration of minutes is only begun, elsewhere: one that is whole has been prepared
    "profile --calibrate": {"--calibrate": "begun.json", "--seconds": "0.2"},
    "data sample": {"--train": "3", "--val": "1", "--test": "1"},
}  # fmt: skip
# only where the page has the option itself
ONLY_WHERE_GIVEN = ("--qat",)

# in blocks of Python: pattern → in its place
PYTHON: dict[str, str] = {
    r"epochs=\d+\)": "epochs=1, size=64, batch_size=4, workers=0)",
    r"int8_recipe\(.*?\)": "int8_recipe(epochs=1, batch_size=4, workers=0)",
}

# what a command contains → why it is not run; calls of `flyweight` are parsed all the same
NOT_RUN: dict[str, str] = {
    "make ": "installs, trains for minutes, or runs this very suite",
    "pip install": "installs packages",
    "--review": "serves a page until Ctrl-C; tests/labeling/test_review_browser.py drives it",
    "flyweight serve": "serves until Ctrl-C; tests/server does",
    "http.server": "serves until Ctrl-C",
    "--engine ray": "starts a Ray cluster; tests/labeling/test_ray_engine.py does",
    "benchmarks/": "a benchmark takes minutes and writes its results",
    "torchrun": "starts several processes; tests/training/test_distributed.py does",
}

# what a block or command contains → what the machine must have for it, and how to see that
NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "--to web": ("onnxruntime-web", lambda: find_onnxruntime_web() is not None),
    "write_folder(": ("onnxruntime-web", lambda: find_onnxruntime_web() is not None),
    "--to litert": ("litert-torch", lambda: find_spec("litert_torch") is not None),
    "ncnn": ("pnnx and ncnn", lambda: all(map(find_spec, ("pnnx", "ncnn")))),
}

# what a command contains → why it runs under the mark `slow` only
SLOW: dict[str, str] = {
    "flyweight compress": "prunes, trains, exports and times",
    "--to onnx,openvino": "two exports, compared, and their AP",
    "best.xml": "the file of a slow export",
    "--nms": "an export",
    "--to litert": "an export whose converter takes half a minute to load",
    "--to web": "an export",
    "ncnn": "an export, and what reads its file",
    "flyweight models": "builds every detector",
    "--precision int8": "exports, calibrates, and searches what stays in float",
    "--doctor": "puts every layer into int8 alone",
    "--measure": "times every layer and the machine's limits",
    "flyweight design": "traces candidates",
    "--advice": "traces every change",
    "fine_tune_for_int8": "trains for int8",
    "yolov4": "a step of it takes seconds",
}


def reason_not_to_run(command: str) -> str:
    """Why a command is not run; empty where it is."""
    for part, reason in NOT_RUN.items():
        if part in f"{command} ":
            return reason
    missing = (need for part, (need, there) in NEEDS.items() if part in command and not there())
    return next((f"{need} is not on this machine" for need in missing), "")


def is_slow(text: str) -> bool:
    """Whether a block costs seconds."""
    return any(part in text for part in SLOW)


def cheaper_words(words: list[str]) -> list[str]:
    """The arguments of `flyweight` with what is costly made small."""
    line = " ".join(words)
    cheap = list(words)
    for verb, options in OPTIONS.items():
        if not all(word in words for word in verb.split()) or not line.startswith(verb.split()[0]):
            continue
        for option, value in options.items():
            if option in cheap:
                cheap[cheap.index(option) + 1] = value
            elif option not in ONLY_WHERE_GIVEN:
                cheap += [option, value]
    return cheap


def cheaper_python(text: str) -> str:
    """A block of Python with what is costly made small."""
    for pattern, replacement in PYTHON.items():
        text = re.sub(pattern, replacement, text)
    return text
