"""Any backbone under any head: a few pairs each time, all of them with `pytest -m slow`.

The table of all pairs, `docs/compositions.md`, is written by `benchmarks/compositions.py` with the
same check.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from flyweight.models.backbones import BACKBONES

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "compositions.py"
QUICK = {
    ("ssdlite", "snet49"),
    ("ssd", "squeezenet1_1"),
    ("retinanet", "ghostnet"),
    ("yolov3", "mobilenet_v3_small"),
    ("yolov4", "shufflenet_v2"),
    ("faster_rcnn", "resnet18"),
}


@pytest.fixture(scope="module")
def compositions() -> ModuleType:
    """The benchmark script as a module."""
    spec = importlib.util.spec_from_file_location("compositions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HEADS = ("ssdlite", "ssd", "retinanet", "yolov3", "yolov4", "faster_rcnn")
PAIRS = [
    pytest.param(head, backbone, marks=() if (head, backbone) in QUICK else pytest.mark.slow)
    for head in HEADS
    for backbone in BACKBONES
]


@pytest.mark.parametrize(("head", "backbone"), PAIRS)
def test_the_pair_trains_reloads_and_folds(
    head: str, backbone: str, compositions: ModuleType
) -> None:
    row = compositions.check_pair(head, backbone, exported=(head, backbone) not in QUICK)
    assert row["params"] > 0


def test_the_table_has_every_head(compositions: ModuleType) -> None:
    assert compositions.HEADS == HEADS
