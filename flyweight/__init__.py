"""Flyweight: from labelled pictures to the smallest detector that does the job.

    import flyweight as fw

    detections = fw.load("model.onnx").predict("photo.jpg")  # numpy and a runtime, no torch
    run = fw.train("ssdlite320_mobilenet_v2", "my_data", "runs/first", pretrained="imagenet")

Everything is loaded when it is first used, so that importing Flyweight costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flyweight.api import build, compare, compress, evaluate, export, label, load, pretrain, train

if TYPE_CHECKING:
    from flyweight.core.detections import Detections as Detections
    from flyweight.data.formats import open_dataset as open_dataset

__version__ = "0.1.0"

_HOMES = {
    "Detections": "flyweight.core.detections",
    "open_dataset": "flyweight.data.formats",
}

__all__ = [
    "Detections",
    "__version__",
    "build",
    "compare",
    "compress",
    "evaluate",
    "export",
    "label",
    "load",
    "open_dataset",
    "pretrain",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'flyweight' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
