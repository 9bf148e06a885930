"""Sample scenes: cards on a cluttered table, with labels, drawn from a seed.

They stand in for one's own photos in the demo and in tests: no download, no licence question, the
same seed gives the same bytes. A scene is a plane seen by a tilted pinhole camera; what lies on it
is painted flat, projected by one homography and lit. The only class is `card`.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import clip_boxes
from flyweight.core.errors import InputError
from flyweight.core.image import encode_image
from flyweight.data.image_files import new_folder
from flyweight.data.records import SPLITS
from flyweight.data.scenes.camera import (
    Camera,
    clip_polygon,
    draw_camera,
    rotation,
    translation,
)
from flyweight.data.scenes.effects import (
    add_sensor_noise,
    blur_scene,
    compress_scene,
    light_scene,
)
from flyweight.data.scenes.paint import Image
from flyweight.data.scenes.surfaces import draw_surface
from flyweight.data.scenes.table import (
    TableScene,
    place_card,
    place_distractor,
    place_fingers,
    place_pen,
)

CLASS_NAMES = ("card",)
# Shares of scenes with 0, 1, 2, 3 and 4 cards.
_CARD_COUNTS = (0.12, 0.36, 0.26, 0.16, 0.10)
# A card of which less than this is in sight is not labelled.
MIN_VISIBLE = 0.3
# Pixels by which a box may exceed what is seen before the covered side is taken in.
_COVERED = 2.0
_SLIVER = 3


def draw_scene(
    seed: int | Sequence[int], size_hw: tuple[int, int] = (320, 320)
) -> tuple[Image, npt.NDArray[np.float32]]:
    """One scene of `size_hw` pixels: RGB uint8 `[H, W, 3]` and its cards `boxes_xyxy [G, 4]`.

    Boxes are float32 pixels: the hull of what can be seen of the card; cards of which less than
    `MIN_VISIBLE` is in sight have none.
    """
    rng = np.random.default_rng(seed)
    height, width = size_hw
    unit = float(np.sqrt(height * width))
    camera = draw_camera(rng, size_hw)
    image = _draw_table(rng, size_hw, camera)
    sun = float(rng.uniform(0, 2 * np.pi))
    light = np.array([np.cos(sun), np.sin(sun)]) * float(rng.uniform(0.5, 1.3))
    scene = TableScene(image, np.zeros(size_hw, np.uint8), light, camera)
    cards = int(rng.choice(len(_CARD_COUNTS), p=_CARD_COUNTS))
    largest = (0.72, 0.72, 0.55, 0.48, 0.42)[cards]
    length = unit * float(np.exp(rng.uniform(np.log(0.21), np.log(largest))))

    distractors = int(rng.integers(1, 5)) + (cards == 0)
    below = int(rng.binomial(distractors, 0.7))
    for _ in range(below):
        place_distractor(rng, scene, length)
    for _ in range(cards):
        place_card(rng, scene, length * float(rng.uniform(0.85, 1.15)))
    for _ in range(distractors - below):
        place_distractor(rng, scene, length)
    if rng.uniform() < 0.3:
        place_pen(rng, scene, length)
    for index in range(len(scene.outlines)):
        if rng.uniform() < 0.25:
            place_fingers(rng, scene, index)

    image = light_scene(rng, scene.image)
    image = blur_scene(rng, image)
    image = add_sensor_noise(rng, image)
    if rng.uniform() < 0.3:
        image = compress_scene(image, int(rng.integers(30, 80)))
    return image, _label(scene)


def save_scenes(
    out_dir: str | Path,
    *,
    train: int = 600,
    val: int = 100,
    test: int = 100,
    seed: int = 0,
    size_hw: tuple[int, int] = (320, 320),
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Writes scenes as a COCO data set and returns its folder.

    There are ``images/SPLIT/*.jpg`` and ``annotations/instances_SPLIT.json``.

    ``train``, ``val`` and ``test`` count the scenes of each split (0: no such split); scenes of
    different splits come from different seeds, and more scenes of one split change no other.
    ``progress`` is told how many scenes are done. With ``workers`` above 1 as many processes draw.
    """
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    for name, count in counts.items():
        if count < 0:
            raise InputError(f"{count} scenes", where=name, fix="give a count of 0 or more")
    if min(size_hw) < 32:
        raise InputError(f"size {size_hw}", where="size_hw", fix="give at least 32 x 32 pixels")
    with new_folder(Path(out_dir)) as folder, _mapper(workers) as run:
        (folder / "annotations").mkdir()
        done = 0
        for index, (split, count) in enumerate(counts.items()):
            if count == 0:
                continue
            images = folder / "images" / split
            images.mkdir(parents=True)
            jobs = [
                (images / f"scene_{split}_{k:05d}.jpg", (seed, index, k), size_hw)
                for k in range(count)
            ]
            boxes = []
            for drawn in run(_write_scene, jobs):
                boxes.append(drawn)
                done += 1
                if progress is not None:
                    progress(done)
            content = _coco_content([job[0].name for job in jobs], boxes, size_hw)
            path = folder / "annotations" / f"instances_{split}.json"
            path.write_text(json.dumps(content), encoding="utf-8")
    return Path(out_dir)


_Job = tuple[Path, tuple[int, int, int], tuple[int, int]]
_Boxes = npt.NDArray[np.float32]


@contextmanager
def _mapper(
    workers: int,
) -> Iterator[Callable[[Callable[[_Job], _Boxes], Iterable[_Job]], Iterable[_Boxes]]]:
    """`map`, or the ordered one of a pool of processes."""
    if workers <= 1:
        yield map
        return
    # Spawned, not forked: the caller may have threads (a runtime's, torch's).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) as pool:
        yield lambda function, jobs: pool.map(function, jobs, chunksize=8)


def _write_scene(job: _Job) -> _Boxes:
    path, seed, size_hw = job
    image, boxes_xyxy = draw_scene(seed, size_hw)
    # The folder appears whole or not at all, so single files need no care of their own.
    path.write_bytes(encode_image(image, quality=92))
    return boxes_xyxy


def _coco_content(
    names: Sequence[str], boxes_xyxy: Sequence[_Boxes], size_hw: tuple[int, int]
) -> dict[str, Any]:
    height, width = size_hw
    annotations: list[dict[str, Any]] = []
    for image_id, boxes in enumerate(boxes_xyxy, start=1):
        for x0, y0, x1, y1 in np.round(boxes.astype(np.float64), 2).tolist():
            box_xywh = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": box_xywh,
                    "area": round(box_xywh[2] * box_xywh[3], 2),
                    "iscrowd": 0,
                }
            )
    images = [
        {"id": k, "file_name": name, "width": width, "height": height}
        for k, name in enumerate(names, start=1)
    ]
    return {
        "info": {"description": "Sample scenes drawn by Flyweight"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASS_NAMES, start=1)],
    }


def _label(scene: TableScene) -> npt.NDArray[np.float32]:
    """Boxes `xyxy [G, 4]` of the cards that are well enough in sight."""
    height, width = scene.owner.shape
    boxes = []
    for index, (outline, area) in enumerate(zip(scene.outlines, scene.areas, strict=True)):
        if scene.in_sight[index] < MIN_VISIBLE * area:
            continue
        inside = clip_polygon(outline, (height, width))
        box = np.concatenate([inside.min(axis=0), inside.max(axis=0)])
        # Rows and columns with a pixel or two are slivers between the things that cover the card.
        mine = scene.owner == index + 1
        columns = np.flatnonzero(mine.sum(axis=0) >= _SLIVER)
        rows = np.flatnonzero(mine.sum(axis=1) >= _SLIVER)
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        # The outline is exact below a pixel; a side that something covers ends where it is seen.
        boxes.append(np.where(np.abs(seen - box) > _COVERED, seen, box))
    return clip_boxes(np.asarray(boxes, np.float32).reshape(-1, 4), (height, width))


def _draw_table(rng: np.random.Generator, size_hw: tuple[int, int], camera: Camera) -> Image:
    height, width = size_hw
    side = round(1.3 * max(size_hw))
    surface = draw_surface(rng, (side, side))
    turn = float(rng.choice((0, np.pi / 2))) + float(rng.normal(0, 0.25))
    matrix = camera.matrix() @ rotation(turn) @ translation(-side / 2, -side / 2)
    return np.asarray(
        cv2.warpPerspective(
            surface,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )
