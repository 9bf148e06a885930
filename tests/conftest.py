"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

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
