"""Augmentation: every geometric step adds to one matrix, pixels are resampled once."""

from __future__ import annotations

from flyweight.transforms.pipeline import TrainTransform
from flyweight.transforms.presets import build_transform

__all__ = ["TrainTransform", "build_transform"]
