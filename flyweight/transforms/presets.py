"""Named recipes of augmentation."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.crops import RandomIoUCrop
from flyweight.transforms.geometry import RandomExpand, RandomFlip
from flyweight.transforms.photometric import PhotometricDistortion
from flyweight.transforms.pipeline import TrainTransform


def ssd_transform(preprocessing: Preprocessing) -> TrainTransform:
    """SSD's recipe: photometric distortion, expand, sampling crop, flip, resize.

    Liu et al. 2016 (arXiv 1512.02325), sections 2.2 and 3.6, with the numbers of torchvision's
    reference recipe `ssd`.
    """
    steps = (RandomExpand(), RandomIoUCrop(), RandomFlip())
    return TrainTransform(preprocessing, steps, PhotometricDistortion())


def ssdlite_transform(preprocessing: Preprocessing) -> TrainTransform:
    """The subset for light networks, torchvision's `ssdlite`: sampling crop, flip, resize."""
    return TrainTransform(preprocessing, (RandomIoUCrop(), RandomFlip()))


def resize_transform(preprocessing: Preprocessing) -> TrainTransform:
    """No augmentation: the pixels of `Preprocessing.apply`, every box that has an area."""
    return TrainTransform(preprocessing, min_side=0.0, decode_factor=2.0)


TRANSFORMS: dict[str, Callable[[Preprocessing], TrainTransform]] = {
    "ssd": ssd_transform,
    "ssdlite": ssdlite_transform,
    "none": resize_transform,
}


def build_transform(name: str, preprocessing: Preprocessing) -> TrainTransform:
    """The transform called `name`, to the input that `preprocessing` describes.

    Raises:
        InputError: no such name.
    """
    if name not in TRANSFORMS:
        nearest = get_close_matches(name, TRANSFORMS, n=1, cutoff=0) or list(TRANSFORMS)
        raise InputError(
            f"unknown augmentation {name!r}",
            where="augmentation",
            fix=f"did you mean {nearest[0]!r}? There are {', '.join(TRANSFORMS)}",
        )
    return TRANSFORMS[name](preprocessing)
