"""Pictures of coloured rectangles: where a transform put each one can be read off its pixels."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import cv2
import numpy as np

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms import build_transform
from flyweight.transforms.composition import Composition
from flyweight.transforms.crops import RandomIoUCrop
from flyweight.transforms.cutmix import CutMix
from flyweight.transforms.erasing import Cutout, RandomErasing
from flyweight.transforms.geometry import (
    GeometricStep,
    RandomAffine,
    RandomExpand,
    RandomFlip,
    RandomJitter,
)
from flyweight.transforms.mixup import MixUp
from flyweight.transforms.mosaic import Mosaic
from flyweight.transforms.pictures import Picture
from flyweight.transforms.pipeline import TrainTransform
from flyweight.transforms.presets import TRANSFORMS

BACKGROUND = (128, 128, 128)
# Pure hues: what an edge mixes of one and a grey is like no other.
COLOURS = [
    tuple(round(255 * level) for level in colorsys.hsv_to_rgb(hue / 24, 1, 1)) for hue in range(24)
]
# As many pictures as one sample takes, five, have all colours apart.
PER_PICTURE = 4
MODES = ("stretch", "letterbox", "shortest_side", "batch")
GREY = (100, 100, 100)
FLIP = (RandomFlip(),)
STEPS: dict[str, tuple[GeometricStep, ...]] = {
    "expand": (RandomExpand(p=1),),
    "crop": (RandomIoUCrop(iou_options=(0.0, 0.3, 1.0)),),
    "flip": (RandomFlip(p=1),),
    "jitter": (RandomJitter(),),
    "affine": (RandomAffine(degrees=8, shear_degrees=4, scale_range=(0.4, 1.0)),),
    "all": (RandomJitter(), RandomExpand(p=1), RandomIoUCrop(), RandomFlip()),
}
COMPOSITIONS: dict[str, Composition] = {
    "mosaic": Mosaic(),
    "mosaic of jittered": Mosaic(scale_range=(0.3, 1.5), steps=(RandomJitter(), *FLIP)),
    "mosaic of crops": Mosaic(steps=(RandomExpand(), RandomIoUCrop(), *FLIP)),
    "mosaic of turned": Mosaic(steps=(RandomAffine(degrees=6),)),
    "cutmix": CutMix(p=1),
    "cutmix of mosaics": CutMix(p=1, inner=Mosaic(p=0.5, steps=FLIP)),
    "cutout": Cutout(p=1, count=2, fill=GREY),
    "erasing": RandomErasing(p=1, fill=GREY),
    "erasing of cutmix of mosaics": RandomErasing(
        p=1, count=3, area_range=(0.02, 0.2), fill=GREY, inner=CutMix(p=1, inner=Mosaic())
    ),
}


def draw_scene(
    seed: int, size_hw: tuple[int, int], first_label: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectangles apart from each other, four labels at most from `first_label` on, each in its
    own colour."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    image = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    boxes, labels = [], []
    for cell in rng.permutation(PER_PICTURE)[: rng.integers(0, PER_PICTURE + 1)]:
        # One cell of a grid of 2 x 2 for each label, two pixels of background around it.
        left, top = (cell % 2) * width // 2 + 2, (cell // 2) * height // 2 + 2
        right, bottom = (cell % 2 + 1) * width // 2 - 2, (cell // 2 + 1) * height // 2 - 2
        x = np.sort(rng.choice(np.arange(left, right + 1), 2, replace=False))
        y = np.sort(rng.choice(np.arange(top, bottom + 1), 2, replace=False))
        image[y[0] : y[1], x[0] : x[1]] = COLOURS[first_label + cell]
        boxes.append((x[0], y[0], x[1], y[1]))
        labels.append(first_label + cell)
    return (
        image,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
    )


class Scenes:
    """Other pictures: whatever index is asked for, the next scene in colours not yet used."""

    def __init__(self, seed: int, *, larger: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.sides = (40 + larger, 240 + larger)
        self.next_label = PER_PICTURE

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Picture:
        assert 0 <= index < 7
        size_hw = (int(self.rng.integers(*self.sides)), int(self.rng.integers(*self.sides)))
        label = self.next_label % len(COLOURS)
        self.next_label += PER_PICTURE
        return Picture(*draw_scene(int(self.rng.integers(1 << 30)), size_hw, label), size_hw)


def extents(
    image: np.ndarray, *, least: int = 128, without_lines: bool = False
) -> dict[int, np.ndarray]:
    """`xyxy` of each label's colour in the image: pixels that have its hue, and half of their
    light (`least` of 255) in it, so that an edge is where a grey and the colour are mixed in equal
    parts. `without_lines` sees nothing that is only one pixel wide."""
    red, green, blue = cv2.split(image)
    chroma = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[..., 0].astype(np.float32)
    label = np.rint(hue * (len(COLOURS) / 256)).astype(np.int64) % len(COLOURS)
    label[chroma < least] = -1
    found = {}
    for each in np.flatnonzero(np.bincount(label.ravel() + 1)[1:]).tolist():
        seen = label == each
        if without_lines:
            square = seen[1:, 1:] & seen[1:, :-1] & seen[:-1, 1:] & seen[:-1, :-1]
            seen = np.zeros_like(seen)
            for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
                seen[down : down + len(square), across : across + square.shape[1]] |= square
            if not seen.any():
                continue
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        found[each] = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return found


def assert_boxes_fit(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    tolerance: float = 1.5,
) -> list[np.ndarray]:
    """Each box is the extent of its label's colour in the image; how far its middle is off."""
    assert boxes.shape == (len(labels), 4)
    assert boxes.dtype == np.float32
    assert labels.dtype == np.int64
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= image.shape[1::-1]).all()
    errors = []
    found = extents(image)
    for box, label in zip(boxes, labels, strict=True):
        if min(box[2:] - box[:2]) < 4:
            continue  # mixed with the background all over
        seen = found[label]
        np.testing.assert_allclose(seen, box, atol=tolerance)
        errors.append(seen.reshape(2, 2).mean(axis=0) - box.reshape(2, 2).mean(axis=0))
    return errors


def assert_boxes_hold(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, *, hull: bool
) -> None:
    """Boxes hold what is seen of their objects, and for a `hull` touch it on each side.

    Lines a pixel wide that are left beside a window may belong to the box or not.
    """
    solid, all_of_it = extents(image, without_lines=True), extents(image, least=100)
    for box, label in zip(boxes, labels, strict=True):
        if min(box[2:] - box[:2]) < 4:
            continue
        if label in solid:
            assert (solid[label][:2] >= box[:2] - 1.5).all()
            assert (solid[label][2:] <= box[2:] + 1.5).all()
        if hull:
            assert (all_of_it[label][:2] <= box[:2] + 1.5).all()
            assert (all_of_it[label][2:] >= box[2:] - 1.5).all()


def assert_nothing_is_lost(image: np.ndarray, labels: np.ndarray) -> None:
    """Of what is seen as four pixels or more along both axes there is a box."""
    for label, seen in extents(image, without_lines=True).items():
        if min(seen[2:] - seen[:2]) >= 4:
            assert label in labels


def preprocessing_of(mode: str, size_hw: tuple[int, int] = (96, 120)) -> Preprocessing:
    if mode == "batch":
        return Preprocessing(size_hw, resize="shortest_side", canvas="batch")
    return Preprocessing(size_hw, resize=mode)  # type: ignore[arg-type]


def transform_of(name: str, mode: str, size_hw: tuple[int, int] = (96, 120)) -> TrainTransform:
    """A preset, or the plain resize with one of `STEPS` or `COMPOSITIONS`; colours stay, and no
    box is dropped for being mostly hidden."""
    preset = build_transform(
        name if name in TRANSFORMS else "none", preprocessing_of(mode, size_hw)
    )
    plain = replace(preset, distortion=None, min_visible=0.0)
    if isinstance(plain.composition, MixUp):
        plain = replace(plain, composition=plain.composition.inner)
    if name in STEPS:
        return replace(plain, steps=STEPS[name])
    if name in COMPOSITIONS:
        return replace(plain, composition=COMPOSITIONS[name])
    return plain


def run_scene(
    transform: TrainTransform, seed: int, size_hw: tuple[int, int], *, larger: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    picture, boxes, labels = draw_scene(seed, size_hw)
    rng = np.random.default_rng(seed)
    return transform(
        picture, boxes, labels, size_hw=size_hw, rng=rng, others=Scenes(seed, larger=larger)
    )
