"""A trained detector for other classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from flyweight.models.detectors.checkpoint import rebuild
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.families import FAMILIES
from flyweight.models.detectors.zoo import checked_class_names


def replace_classes(detector: Detector, classes: Sequence[str]) -> Detector:
    """A copy of `detector` that finds `classes`, to be trained on.

    Everything keeps its weights but the rows of the last layers that belong to classes: those start
    afresh, except for classes that both have by name (and the background).
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
    layout = FAMILIES[detector.config.family].class_rows
    for key, old in detector.state_dict().items():
        new = weights[key]
        rows = next((each for each in layout if re.search(each.pattern, key)), None)
        if rows is None:
            new.copy_(old)
            continue
        source = rows.view(old.cpu(), len(detector.class_names))
        target = rows.view(new, len(names))
        target[:, : rows.shared] = source[:, : rows.shared]
        for name in shared:
            kept = rows.shared + detector.class_names.index(name)
            target[:, rows.shared + names.index(name)] = source[:, kept]
    renamed.train(detector.training)
    return renamed
