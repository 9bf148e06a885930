"""Detectors: one a file, the zoo of presets, and their checkpoints."""

from __future__ import annotations

from flyweight.models.detectors.checkpoint import load, load_manifest, save
from flyweight.models.detectors.classes import replace_classes
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.zoo import ZOO, build, describe

__all__ = [
    "ZOO",
    "Detector",
    "Targets",
    "build",
    "describe",
    "load",
    "load_manifest",
    "replace_classes",
    "save",
]
