"""Named recipes of augmentation."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.crops import RandomIoUCrop
from flyweight.transforms.geometry import RandomExpand, RandomFlip, RandomJitter
from flyweight.transforms.hsv import HsvDistortion
from flyweight.transforms.mixup import MixUp
from flyweight.transforms.mosaic import Mosaic
from flyweight.transforms.photometric import PhotometricDistortion
from flyweight.transforms.pipeline import TrainTransform
from flyweight.transforms.sampling import supersample

# Of an object cut by a tile or by another picture at least this share has to be seen: a sliver
# says nothing of its class. YOLOv5 takes as much.
MIN_VISIBLE = 0.1


def ssd_transform(preprocessing: Preprocessing) -> TrainTransform:
    """SSD's recipe: photometric distortion, expand, sampling crop, flip, resize.

    Liu et al. 2016 (arXiv 1512.02325), sections 2.2 and 3.6, with the numbers of torchvision's
    reference recipe `ssd`.
    """
    steps = (RandomExpand(), RandomIoUCrop(), RandomFlip())
    return TrainTransform(preprocessing, steps, PhotometricDistortion(), resize=supersample)


def ssdlite_transform(preprocessing: Preprocessing) -> TrainTransform:
    """The subset for light networks, torchvision's `ssdlite`: sampling crop, flip, resize."""
    return TrainTransform(preprocessing, (RandomIoUCrop(), RandomFlip()), resize=supersample)


def flip_transform(preprocessing: Preprocessing) -> TrainTransform:
    """Flip and resize, all that RetinaNet (Lin et al. 2017, arXiv 1708.02002, section 4.1) and
    Faster R-CNN (Ren et al. 2015, arXiv 1506.01497) train with; pictures of their own size."""
    return TrainTransform(preprocessing, (RandomFlip(),))


def yolov3_transform(preprocessing: Preprocessing) -> TrainTransform:
    """Darknet's recipe (Redmon & Farhadi 2018, arXiv 1804.02767): jitter, flip, distortion in HSV,
    with the numbers of yolov3.cfg."""
    steps = (RandomJitter(), RandomFlip())
    return TrainTransform(preprocessing, steps, HsvDistortion(), resize=supersample)


def yolov4_transform(preprocessing: Preprocessing) -> TrainTransform:
    """YOLOv4's (Bochkovskiy et al. 2020, arXiv 2004.10934, section 3.4 and table 4): Mosaic of
    pictures that each go through Darknet's recipe.

    Without CutMix and MixUp, which the paper uses for its classifier only.
    """
    steps = (RandomJitter(), RandomFlip())
    return TrainTransform(
        preprocessing,
        steps,
        HsvDistortion(),
        composition=Mosaic(steps=steps),
        min_visible=MIN_VISIBLE,
        resize=supersample,
    )


def yolox_transform(preprocessing: Preprocessing) -> TrainTransform:
    """YOLOX's (Ge et al. 2021, arXiv 2107.08430, section 2.1): Mosaic, half and half with another
    picture, flip, distortion in HSV. To be switched off for the last epochs.

    Each tile has a scale of its own (0.5 to 1.5) where YOLOX scales the whole mosaic by 0.1 to 2;
    the distortion is Darknet's. Turning by 10 degrees is left out, since it makes boxes loose.
    """
    flip = (RandomFlip(),)
    mosaic = Mosaic(scale_range=(0.5, 1.5), steps=flip)
    return TrainTransform(
        preprocessing,
        flip,
        HsvDistortion(),
        composition=MixUp(p=1.0, beta=None, inner=mosaic),
        min_visible=MIN_VISIBLE,
        resize=supersample,
    )


def tiny_data_transform(preprocessing: Preprocessing) -> TrainTransform:
    """For a few hundred pictures: every other sample a Mosaic, the others SSD's recipe.

    Mosaic shows objects in new company and at smaller scales, the crop larger and cut ones; half
    of the samples stay like real pictures. Expand goes to twice the side only, since Mosaic has
    the small objects. Nothing is turned: the hull of a box turned by 5 degrees is up to 8 percent
    wider than the object.
    """
    return TrainTransform(
        preprocessing,
        (RandomExpand(side_range=(1.0, 2.0)), RandomIoUCrop(), RandomFlip()),
        PhotometricDistortion(),
        composition=Mosaic(p=0.5, steps=(RandomFlip(),)),
        min_visible=MIN_VISIBLE,
        resize=supersample,
    )


def resize_transform(preprocessing: Preprocessing) -> TrainTransform:
    """No augmentation: the pixels of `Preprocessing.apply`, every box that has an area."""
    return TrainTransform(preprocessing, min_side=0.0, decode_factor=2.0)


TRANSFORMS: dict[str, Callable[[Preprocessing], TrainTransform]] = {
    "ssd": ssd_transform,
    "ssdlite": ssdlite_transform,
    "retinanet": flip_transform,
    "faster_rcnn": flip_transform,
    "yolov3": yolov3_transform,
    "yolov4": yolov4_transform,
    "yolox": yolox_transform,
    "tiny_data": tiny_data_transform,
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
