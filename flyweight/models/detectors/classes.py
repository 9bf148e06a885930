"""A trained detector for other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flyweight.models.detectors.checkpoint import rebuild
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.zoo import checked_class_names


def replace_classes(detector: Detector, classes: Sequence[str]) -> Detector:
    """A copy of `detector` that finds `classes`, to be trained on.

    Backbone, neck and box branches keep their weights. The last convolution of each class branch
    starts afresh, but for the background and for classes that both have by name: those keep
    their rows.
    """
    names = checked_class_names(classes)
    manifest = detector.manifest()
    renamed = rebuild(
        replace(
            manifest,
            model=manifest.model | {"num_classes": len(names)},
            class_names=names,
        )
    )
    weights = renamed.state_dict()
    shared = [name for name in names if name in detector.class_names]
    # Row 0 is the background's.
    kept_from = torch.tensor([0, *(1 + detector.class_names.index(name) for name in shared)])
    kept_to = torch.tensor([0, *(1 + names.index(name) for name in shared)])
    for key, old in detector.state_dict().items():
        new = weights[key]
        if _depends_on_classes(key):
            source = _by_class(old.cpu(), len(detector.class_names))
            _by_class(new, len(names))[:, kept_to] = source[:, kept_from]
        else:
            new.copy_(old)
    renamed.train(detector.training)
    return renamed


def _depends_on_classes(key: str) -> bool:
    """Whether a tensor holds rows of classes: the last convolution of a class branch."""
    return ".classification." in key and ".output." in key


def _by_class(tensor: Tensor, classes: int) -> Tensor:
    """`[K * (C + 1), ...]` seen as `[K, C + 1, ...]`."""
    return tensor.view(-1, classes + 1, *tensor.shape[1:])
