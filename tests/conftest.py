"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

# Networks in tests are tiny: a second thread costs them more than it brings, and where other
# processes share the cores its waiting makes them many times slower. Must precede torch's import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[2] / "shared"


def _shared(*parts: str) -> Path:
    folder = SHARED.joinpath(*parts)
    if not folder.is_dir():
        pytest.skip(
            f"the shared data folder {'/'.join(parts) or 'shared'} is not beside the project"
        )
    return folder


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real pictures and reference networks that lies beside the project."""
    return _shared()


@pytest.fixture(scope="session")
def bccd_dir() -> Path:
    """Blood cells, VOC format, 205/87/72 images, three classes."""
    return _shared("data", "bccd")


@pytest.fixture(scope="session")
def cards_dir() -> Path:
    """Playing cards, VOC format, 296/67 images, six classes."""
    return _shared("data", "cards")


@pytest.fixture(scope="session")
def tiny_coco_dir() -> Path:
    """50 + 50 images of COCO 2017, 80 classes, with crowds and empty images."""
    return _shared("data", "tiny_coco")


@pytest.fixture(scope="session")
def voc6_dir() -> Path:
    """Six classes of VOC 2012, COCO format, 3,000/426 images."""
    return _shared("data", "voc6")


# Of the zoo's detectors those that a test of every kind runs each time; the others nightly.
QUICK = {
    "ssdlite320_mobilenet_v1",
    "ssdlite320_mobilenet_v2",
    "ssdlite320_mobilenet_v3_large",
    "ssdlite320_mobilenet_v3_small",
    "mobilenet_ssd300",
    "retinanet_snet",
    "yolov3",
}


def zoo_parameters(names: Iterable[str]) -> list[Any]:
    """Names of the zoo as parameters of a test, the heavy ones marked slow."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `zoo_name` runs for every detector of the zoo."""
    if "zoo_name" in metafunc.fixturenames:
        from flyweight.models.detectors.zoo import ZOO

        metafunc.parametrize("zoo_name", zoo_parameters(ZOO))


@pytest.fixture
def small_detector() -> Callable[..., Any]:
    """`small_detector(name, **options)`: few pixels, few channels, every part is there."""
    return build_small


def build_small(name: str, **options: Any) -> Any:
    """A detector of the zoo at 64 pixels and a quarter of the channels."""
    import torch

    from flyweight.models.detectors.zoo import build

    smallest: dict[str, Any] = {"classes": ("a", "b", "c"), "size": 64, "width": 0.25}
    if name == "ssd300_vgg16":
        # Its last two levels are convolutions without padding: there must be cells left.
        smallest |= {"size": 300, "width": 0.125}
    torch.manual_seed(0)
    return build(name, **(smallest | options))
