"""Named recipes: what papers train their detectors with, and what works on little data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from flyweight.core.errors import InputError


@dataclass(frozen=True)
class NamedRecipe:
    """Settings by a name.

    Attributes:
        description: one line for `flyweight train --recipe`.
        settings: fields of `Recipe` that differ from its defaults.
        options: fields of a detector's config, by its family: losses, norms.
    """

    description: str
    settings: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


# The published learning rates are for other batches; they are scaled linearly to 16 images (Goyal
# et al. 2017, section 2.1). Published numbers of epochs are for COCO; `epochs` is left to the user.
RECIPES: Mapping[str, NamedRecipe] = {
    "ssdlite": NamedRecipe(
        "AdamW, cosine, SSD's augmentation: the default, for light detectors on hundreds to "
        "thousands of pictures",
        {},
    ),
    # Liu et al. 2016, sections 2.2 and 3.1: 0.001 at a batch of 32, two steps.
    "ssd": NamedRecipe(
        "SGD with two steps and SSD's augmentation (Liu et al. 2016)",
        {
            "optimizer": "sgd",
            "lr": 5e-4,
            "weight_decay": 5e-4,
            "schedule": "steps",
            "step_epochs": (2 / 3, 5 / 6),
            "augmentation": "ssd",
        },
    ),
    # Lin et al. 2017, RetinaNet, section 4.1: 0.01 at a batch of 16, 90,000 steps, falling at
    # 60,000 and 80,000; flip only. Norms of the pretrained backbone are frozen.
    "retinanet": NamedRecipe(
        "SGD with two steps, flip only, norms frozen (Lin et al. 2017)",
        {
            "optimizer": "sgd",
            "lr": 0.01,
            "weight_decay": 1e-4,
            "schedule": "steps",
            "step_epochs": (2 / 3, 8 / 9),
            "augmentation": "retinanet",
            "freeze_norms": True,
        },
    ),
    # Lin et al. 2017, Feature Pyramid Networks, section 5.2: 0.02 at a batch of 16.
    "faster_rcnn": NamedRecipe(
        "SGD with two steps, flip only, norms frozen (Ren et al. 2015; Lin et al. 2017)",
        {
            "optimizer": "sgd",
            "lr": 0.02,
            "weight_decay": 1e-4,
            "schedule": "steps",
            "step_epochs": (2 / 3, 8 / 9),
            "augmentation": "faster_rcnn",
            "freeze_norms": True,
        },
    ),
    # Redmon & Farhadi 2018, section 2.4 and yolov3.cfg: multi-scale from 320 to 608 around 416,
    # steps at 0.8 and 0.9. AdamW, since Darknet's rate belongs to losses that are summed.
    "yolov3": NamedRecipe(
        "Darknet's augmentation, multi-scale (Redmon & Farhadi 2018)",
        {
            "schedule": "steps",
            "step_epochs": (0.8, 0.9),
            "augmentation": "yolov3",
            "multi_scale": (320 / 416, 608 / 416),
        },
    ),
    # Bochkovskiy et al. 2020, section 3.4, "BoF and BoS for detector".
    "yolov4": NamedRecipe(
        "Mosaic, self-adversarial training, DropBlock, CmBN, CIoU, label smoothing, cosine "
        "(Bochkovskiy et al. 2020)",
        {
            "augmentation": "yolov4",
            "multi_scale": (0.75, 1.25),
            "adversarial": 0.1,
            "drop_block": 0.1,
            "mini_batches": 2,
        },
        {
            "yolo": {
                "norm": "cmbn",
                "backbone_norm": "cmbn",
                "box_loss": "ciou",
                "label_smoothing": 0.1,
            },
            "retinanet": {"box_loss": "ciou", "box_weight": 2.0, "label_smoothing": 0.1},
            "ssd": {"box_loss": "ciou", "box_weight": 2.0, "label_smoothing": 0.1},
        },
    ),
    "tiny_data": NamedRecipe(
        "Mosaic every other time, an average that follows soon: for a few hundred pictures",
        {"augmentation": "tiny_data", "ema_decay": 0.995, "warmup_epochs": 3.0},
    ),
}


def named_recipe(name: str) -> NamedRecipe:
    """The recipe called `name`.

    Raises:
        InputError: no such name.
    """
    if name not in RECIPES:
        nearest = get_close_matches(name, RECIPES, n=1, cutoff=0)
        raise InputError(
            f"unknown recipe {name!r}",
            where="recipe",
            fix=f"did you mean {nearest[0]!r}? There are {', '.join(RECIPES)}",
        )
    return RECIPES[name]
