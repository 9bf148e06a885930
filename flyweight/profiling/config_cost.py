"""What a detector's config costs, without weights, without memory, in a fraction of a second."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.families import FAMILIES
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.trace import trace_detector

# Of a search and of advice alike; one is a few hundred small objects.
COSTS_KEPT = 512


def cost_of(config: Config) -> NetworkCost:
    """The operations of the detector of `config` as it is exported: BatchNorm is folded away.

    Raises:
        InputError: the numbers of the config make no network, such as an input too small for it.
    """
    return _traced(cast(Any, config))


@lru_cache(maxsize=COSTS_KEPT)
def _traced(config: Any) -> NetworkCost:
    return trace_detector(empty_detector(config), folded=True)


def empty_detector(config: Config) -> Detector:
    """The detector of a config on the meta device: shapes without values.

    Raises:
        InputError: the numbers of the config make no network.
    """
    family: Any = FAMILIES[config.family]
    try:
        with torch.device("meta"):
            detector: Detector = family.build(
                config,
                class_names=[str(index) for index in range(config.num_classes)],
                preprocessing=Preprocessing(size_hw=config.size_hw),
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{config.name} cannot be built with these numbers: {error}", where="config"
        ) from error
    return detector
