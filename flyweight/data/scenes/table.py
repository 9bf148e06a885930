"""The table of a sample scene: puts cards and other things on it and knows what can be seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.data.scenes.camera import (
    Camera,
    clip_polygon,
    project,
    rotation,
    tilted,
    translation,
)
from flyweight.data.scenes.cards import draw_card
from flyweight.data.scenes.effects import (
    add_glare,
    cast_shadow,
    draw_finger,
    draw_pen,
    region_of,
    skin_colour,
)
from flyweight.data.scenes.objects import draw_distractor
from flyweight.data.scenes.paint import FlatObject, Image, Points, fill_polygon

# Nothing is put where it would leave less than this of a card in sight.
_KEEP_VISIBLE = 0.5
# Who owns a pixel: 0 the table, 1 and up the cards, this everything else.
_FOREIGN = 255


@dataclass
class TableScene:
    """A picture in the making: pixels, who owns each pixel, and the cards so far."""

    image: Image
    owner: npt.NDArray[np.uint8]
    light: npt.NDArray[np.float64]
    camera: Camera
    outlines: list[Points] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    in_sight: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def hides_too_much(self, outline: Points) -> bool:
        """Whether something at `outline [P, 2]` would leave too little of a card in sight."""
        if not self.outlines:
            return False
        left = self.in_sight - self._owners_under(outline)[1:]
        return bool((left < _KEEP_VISIBLE * np.array(self.areas)).any())

    def add_card(self, outline: Points) -> None:
        """Enters a card at `outline [P, 2]`, on top of everything so far."""
        self.claim(outline, len(self.outlines) + 1)
        self.outlines.append(outline)
        self.areas.append(float(cv2.contourArea(outline)))
        own = self._owners_under(outline)[-1:]
        self.in_sight = np.concatenate([self.in_sight, own])

    def claim(self, outline: Points, owner: int) -> None:
        """Gives the pixels inside `outline [P, 2]` to `owner`."""
        self.in_sight = self.in_sight - self._owners_under(outline)[1:]
        fill_polygon(self.owner, outline, owner, line_type=cv2.LINE_8)

    def _owners_under(self, outline: Points) -> npt.NDArray[np.int64]:
        """How many pixels inside `outline [P, 2]` belong to the table (0) and to each card."""
        kinds = len(self.outlines) + 1
        x0, y0, x1, y1 = region_of(outline, 0, self.owner.shape)
        if x1 <= x0 or y1 <= y0:
            return np.zeros(kinds, np.int64)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        moved = outline - np.array((x0, y0), np.float32)
        fill_polygon(mask, moved, 1, line_type=cv2.LINE_8)
        under = self.owner[y0:y1, x0:x1][mask > 0]
        return np.bincount(under, minlength=kinds)[:kinds]


def place_card(rng: np.random.Generator, scene: TableScene, length: float) -> None:
    """Draws a card of `length` pixels where it hides no other too much, if one exists."""
    height, width = scene.owner.shape
    card = draw_card(rng, int(np.clip(1.4 * length, 90, 640)))
    if rng.uniform() < 0.3:
        card.rgb = add_glare(rng, card.rgb)
    camera = scene.camera
    lift = 0.0
    if rng.uniform() < 0.15:
        # Held or leaning: a tilt of its own.
        own = tilted(float(rng.uniform(0.1, 0.6)), float(rng.uniform(0, 2 * np.pi)))
        camera = Camera(camera.rotation @ own, camera.focal, camera.centre)
        lift = float(rng.uniform(0.03, 0.15))
    reach = 0.5 if rng.uniform() < 0.25 else 0.38
    for _ in range(14):
        place = rng.uniform(-reach, reach, 2) * (width, height)
        angle = float(rng.normal(0, 0.35) if rng.uniform() < 0.5 else rng.uniform(0, 2 * np.pi))
        matrix = _object_matrix(scene, camera, card, place, angle, length)
        outline = project(card.outline, matrix)
        area = float(cv2.contourArea(outline))
        inside = clip_polygon(outline, (height, width))
        if len(inside) < 3 or cv2.contourArea(inside) < 0.6 * area:
            continue
        if scene.hides_too_much(outline):
            continue
        _draw_object(scene, card, matrix, outline, length, lift=lift)
        scene.add_card(outline)
        return


def place_distractor(rng: np.random.Generator, scene: TableScene, length: float) -> None:
    """Draws something that is no card, for cards of `length` pixels."""
    height, width = scene.owner.shape
    thing = draw_distractor(rng, int(np.clip(1.6 * length, 90, 420)))
    if rng.uniform() < 0.2:
        thing.rgb = add_glare(rng, thing.rgb)
    size = thing.length * length * float(rng.uniform(0.85, 1.15))
    for _ in range(5):
        place = rng.uniform(-0.6, 0.6, 2) * (width, height)
        angle = float(rng.normal(0, 0.4) if rng.uniform() < 0.4 else rng.uniform(0, 2 * np.pi))
        matrix = _object_matrix(scene, scene.camera, thing, place, angle, size)
        outline = project(thing.outline, matrix)
        if not scene.hides_too_much(outline):
            _draw_object(scene, thing, matrix, outline, length)
            scene.claim(outline, _FOREIGN)
            return


def place_pen(rng: np.random.Generator, scene: TableScene, length: float) -> None:
    height, width = scene.owner.shape
    if scene.outlines and rng.uniform() < 0.6:
        target = scene.outlines[int(rng.integers(len(scene.outlines)))]
        middle = target[int(rng.integers(len(target)))]
    else:
        middle = rng.uniform(0.1, 0.9, 2) * (width, height)
    reach = length * float(rng.uniform(1.4, 1.8))
    outline = draw_pen(
        rng,
        scene.image,
        (float(middle[0]), float(middle[1])),
        float(rng.uniform(0, 2 * np.pi)),
        reach,
    )
    scene.claim(outline, _FOREIGN)


def place_fingers(rng: np.random.Generator, scene: TableScene, index: int) -> None:
    """One to three fingers that hold card `index` from the nearest side of the picture."""
    height, width = scene.owner.shape
    outline = scene.outlines[index]
    middle = outline.mean(axis=0)
    gaps = np.array([middle[0], middle[1], width - middle[0], height - middle[1]])
    towards = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[int(gaps.argmin())]
    card_length = float(np.sqrt(cv2.contourArea(outline) * 1.586))
    thick = card_length * float(rng.uniform(0.17, 0.22))
    if gaps.min() > 1.6 * card_length:
        return
    skin = skin_colour(rng)
    heading = float(np.arctan2(towards[1], towards[0])) + float(rng.uniform(-0.5, 0.5))
    along = np.array([np.cos(heading), np.sin(heading)])
    side = np.array([-along[1], along[0]])
    # The tip lies a little inside the edge that faces the hand.
    edge = float(((outline - middle) @ along).min())
    count = int(rng.integers(1, 4))
    for k in range(count):
        spread = (k - (count - 1) / 2) * thick * 1.05
        depth = edge + card_length * float(rng.uniform(0.12, 0.3))
        tip = middle + along * depth + side * spread
        drawn = draw_finger(
            rng,
            scene.image,
            (float(tip[0]), float(tip[1])),
            heading,
            thick,
            skin,
            length=float(gaps.min() + card_length),
        )
        scene.claim(drawn, _FOREIGN)


def _object_matrix(
    scene: TableScene,
    camera: Camera,
    thing: FlatObject,
    place: npt.NDArray[np.float64],
    angle: float,
    length: float,
) -> npt.NDArray[np.float64]:
    """Homography `[3, 3]` from the face's pixels to the image; `place` (x, y) on the table."""
    height, width = thing.rgb.shape[:2]
    scale = length / max(height, width)
    flat = rotation(angle) @ np.diag([scale, scale, 1.0]) @ translation(-width / 2, -height / 2)
    if camera is scene.camera:
        return np.asarray(camera.matrix() @ translation(*place) @ flat)
    # An own tilt turns the card about its middle, which stays at its place in the image.
    middle = project(np.array([place], np.float32), scene.camera.matrix())[0]
    shift = translation(float(middle[0]) - camera.centre[0], float(middle[1]) - camera.centre[1])
    return np.asarray(shift @ camera.matrix() @ flat)


def _draw_object(
    scene: TableScene,
    thing: FlatObject,
    matrix: npt.NDArray[np.float64],
    outline: Points,
    length: float,
    *,
    lift: float = 0.0,
) -> None:
    """Shadow, edge and face of `thing`, whose outline is `outline [P, 2]` in the image.

    `length` is a card's length in pixels; `lift` how far it hovers, in cards.
    """
    height, width = scene.owner.shape
    rise = scene.camera.rise(outline.mean(axis=0).astype(np.float64)) * thing.thickness * length
    base = outline - rise.astype(np.float32)
    stands = (thing.thickness + lift) * length
    shade = scene.light * stands
    cast_shadow(
        scene.image,
        base,
        offset=(float(shade[0]) * 0.9, float(shade[1]) * 0.9),
        blur=max(1.0, 0.35 * stands),
        strength=0.5,
    )
    if thing.thickness * length > 1:
        hull = cv2.convexHull(np.concatenate([outline, base]))[:, 0].astype(np.float32)
        fill_polygon(scene.image, hull, thing.side)
    low = np.maximum(np.floor(outline.min(axis=0) - 1), 0).astype(int)
    high = np.minimum(np.ceil(outline.max(axis=0) + 1), (width, height)).astype(int)
    if (high <= low).any():
        return
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    # OpenCV maps pixel centres, which lie half a pixel inside: shift in, map, shift out.
    local = translation(-0.5 - low[0], -0.5 - low[1]) @ matrix @ translation(0.5, 0.5)
    face = cv2.warpPerspective(
        thing.rgb, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    patch = scene.image[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill_polygon(mask, outline - low.astype(np.float32), 255)
    share = cv2.merge([mask] * 3)
    kept = cv2.multiply(patch, 255 - share, scale=1 / 255)
    cv2.add(kept, cv2.multiply(face, share, scale=1 / 255), dst=patch)
