"""What a detector gets wrong, shown: the kinds of errors, examples of each, the worst images.

In every drawing the errors have the colour of their class and everything that is right is grey.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_area, box_iou
from flyweight.core.detections import Detections
from flyweight.core.drawing import class_colour, draw_boxes
from flyweight.core.image import read_image
from flyweight.evaluation.detection_errors import KINDS, MISSED, DetectionErrors
from flyweight.evaluation.matches import counted_objects
from flyweight.reports.page import (
    Image,
    Picture,
    Section,
    colour_key,
    fit_to,
    pictures,
    subsection,
    table,
)

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset, Record

SHOWN_SCORE = 0.3
WORST_IMAGES = 12
EXAMPLES = 6
MOST_NAMES = 12
MOST_CLASSES = 4
EXAMPLE_SIDE = 360
# of an example: how much wider than its boxes it is, and its least share of the picture's side
CONTEXT = 2.0
LEAST_SHARE = 0.25
# what the table rounds to zero is not shown
LEAST_GAIN = 0.0005
GREY = (120, 120, 120)
MEANINGS = {
    "classification": "The place is right, the class is not. Check how these classes are labelled, "
    "then label more of the rarer one.",
    "localisation": "The box overlaps an object of its class, but by little (IoU of 0.1 to 0.5). "
    "Where it shows a neighbour, that one was not labelled; else check that such objects are "
    "outlined alike everywhere, then label more of them.",
    "both": "Near an object of another class (IoU of 0.1 to 0.5): neither the place nor the class "
    "is right.",
    "duplicate": "Another box on an object that a better scored one has found. More labels seldom "
    "help here; a lower IoU threshold of the non-maximum suppression may.",
    "background": "Nothing labelled is there. If there is an object after all, label it; if there "
    "is not, add pictures of what deceived the detector, even without any object in them.",
    MISSED: "No detection covers these objects, whatever its score. Label more that look like "
    "them: their size, pose, light and surroundings.",
}


def failure_sections(
    dataset: DetectionDataset, found: Sequence[Detections], errors: DetectionErrors
) -> list[Section]:
    """The errors by kind and the worst images; nothing where no object is labelled."""
    if errors.AP50 is None:
        return []
    sections = [error_section(dataset, found, errors)]
    cost = errors.image_cost(SHOWN_SCORE)
    if cost.any():
        sections.append(worst_section(dataset, found, errors))
    return sections


def error_section(
    dataset: DetectionDataset, found: Sequence[Detections], errors: DetectionErrors
) -> Section:
    """What each kind of error costs, and examples of each, the dearest kind first."""
    kinds = sorted(KINDS, key=lambda kind: -errors.gains[kind])
    most = max(errors.gains.values()) or 1.0
    # a missed object has no score: none finds it
    rows = [
        [
            kind.capitalize(), f"+{errors.gains[kind]:.3f}",
            "–" if kind == MISSED else str(errors.count(kind, score=SHOWN_SCORE)),
            str(errors.count(kind)),
        ]
        for kind in kinds
    ]  # fmt: skip
    columns = (
        "Error",
        "AP50 gained if mended",
        f"Count at a score of {SHOWN_SCORE:g}",
        "Count of all",
    )
    body = table(columns, rows, bars={1: [errors.gains[kind] / most for kind in kinds]})
    body += _key(dataset)
    for kind in kinds:
        if errors.gains[kind] >= LEAST_GAIN:
            shown = pictures(_examples(dataset, found, errors, kind), small=True)
            note = f"{MEANINGS[kind]} {_by_class(dataset, errors, kind)}"
            body += subsection(kind.capitalize(), shown, note=note)
    note = (
        f"Why AP50 is {errors.AP50:.3f} and not 1, after TIDE (Bolya et al. 2020). The gain is how "
        "far AP50 would rise if this kind alone were mended; gains do not add up. It tells more "
        "than the counts: most errors have scores too low to matter. Shown are the errors whose "
        "scores are the best for their class, and the largest missed objects: left what was "
        "labelled, right what was found, the error in the colour of its class and all else grey."
    )
    return Section("Errors", body, note)


def worst_section(
    dataset: DetectionDataset, found: Sequence[Detections], errors: DetectionErrors
) -> Section:
    """The images that cost most, ground truth on the left, detections on the right."""
    cost = errors.image_cost(SHOWN_SCORE)
    worst = np.argsort(-cost, kind="stable")[:WORST_IMAGES]
    items = [_worst(dataset, found, errors, image) for image in worst[cost[worst] > 0].tolist()]
    note = (
        f"Where most is wrong among the detections with a score of {SHOWN_SCORE:g} or more: every "
        "object that is not found costs 1, every false detection its score. In colour what was "
        "not found on the left and what is false on the right, all else is grey."
    )
    return Section("Worst images", _key(dataset) + pictures(items), note)


def _key(dataset: DetectionDataset) -> str:
    """The colours of the classes, where there are few."""
    names = dataset.class_names if len(dataset.class_names) <= MOST_NAMES else ()
    key = [(name, class_colour(label)) for label, name in enumerate(names)]
    return colour_key([*key, ("all else", GREY)])


def _by_class(dataset: DetectionDataset, errors: DetectionErrors, kind: str) -> str:
    """Which classes gain most without a kind of error and, of wrong classes, which are taken."""
    names, matches = dataset.class_names, errors.matches
    gains = np.nan_to_num(errors.class_gains[kind])
    best = [n for n in np.argsort(-gains, kind="stable")[:MOST_CLASSES] if gains[n] >= LEAST_GAIN]
    text = f"AP50 by class: {', '.join(f'{names[n]} +{gains[n]:.3f}' for n in best)}."
    if kind != "classification":
        return text
    pairs = Counter(
        f"{names[dataset[int(matches.image[place])].labels[errors.cause[place]]]} found as "
        f"{names[matches.label[place]]}"
        for place in errors.of(kind, score=SHOWN_SCORE)
    ).most_common(MOST_CLASSES)
    taken = ", ".join(f"{pair} ({count})" for pair, count in pairs)
    return f"{text} With a score of {SHOWN_SCORE:g} or more: {taken}." if taken else text


def _examples(
    dataset: DetectionDataset, found: Sequence[Detections], errors: DetectionErrors, kind: str
) -> list[Picture]:
    """Pictures of a few errors of a kind, from different images where there are enough."""
    matches = errors.matches
    if kind == MISSED:
        boxes = np.stack([dataset[i].boxes_xyxy[row] for i, row in errors.missed.tolist()])
        missed = errors.missed[np.argsort(-box_area(boxes), kind="stable")]
        chosen = _from_different_images(missed[:, 0])
        return [
            _example(dataset[image], found[image], dataset.class_names, cause=row, place=None)
            for image, row in missed[chosen].tolist()
        ]
    places = errors.of(kind)
    places = places[_from_different_images(matches.image[places])]
    return [
        _example(
            dataset[int(matches.image[p])], found[int(matches.image[p])], dataset.class_names,
            cause=int(errors.cause[p]), place=int(matches.place[p]),
        )
        for p in places
    ]  # fmt: skip


def _from_different_images(images: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of the first few of `images [N]`, no image a second time before all came once."""
    seen: Counter[int] = Counter()
    turn = []
    for image in images.tolist():
        turn.append(seen[image])
        seen[image] += 1
    return np.argsort(turn, kind="stable")[:EXAMPLES]


def _example(
    record: Record,
    found: Detections,
    class_names: Sequence[str],
    *,
    cause: int,
    place: int | None,
) -> Picture:
    """One error and its surroundings.

    Args:
        cause: row of the object in the record, -1 for background.
        place: of the detection at fault, None for a missed object.
    """
    object_box = record.boxes_xyxy[[cause] if cause >= 0 else []]
    false_box = found.boxes_xyxy[[] if place is None else [place]]
    image, scale, shift_xy = _crop(read_image(record.path), np.concatenate([object_box, false_box]))
    wrong = np.arange(len(record)) == cause
    left = _draw(image, (record.boxes_xyxy - shift_xy) * scale, record.labels, wrong)
    name = record.path.name
    if cause >= 0:
        name += f": {class_names[int(record.labels[cause])]}"
    places = np.flatnonzero(found.scores >= SHOWN_SCORE)
    if place is None:
        at_fault, said = np.zeros(len(places), dtype=bool), "not found"
    else:
        places = np.union1d(places, place)
        at_fault = places == place
        said = f"{class_names[int(found.labels[place])]} {found.scores[place]:.2f}"
        if cause >= 0:
            said += f", IoU {box_iou(false_box, object_box)[0, 0]:.2f}"
    boxes = (found.boxes_xyxy[places] - shift_xy) * scale
    right = _draw(image, boxes, found.labels[places], at_fault)
    return Picture(left, right, name, said)


def _worst(
    dataset: DetectionDataset, found: Sequence[Detections], errors: DetectionErrors, image: int
) -> Picture:
    """One image as a whole: what was not found, and what is false."""
    record, matches, names = dataset[image], errors.matches, dataset.class_names
    (rows,) = np.nonzero((matches.image == image) & (matches.score >= SHOWN_SCORE))
    missed = counted_objects(record)
    missed[errors.cause[rows][matches.hit[0, rows]]] = False
    false, places = errors.kind[rows] >= 0, matches.place[rows]
    picture, scale = fit_to(read_image(record.path))
    texts = [names[label] for label in record.labels[missed]]
    left = _draw(picture, record.boxes_xyxy * scale, record.labels, missed, texts)
    texts = [
        f"{names[label]} {score:.2f}"
        for label, score in zip(matches.label[rows][false], matches.score[rows][false], strict=True)
    ]
    boxes = found[image].boxes_xyxy[places] * scale
    right = _draw(picture, boxes, matches.label[rows], false, texts)
    counted = int(counted_objects(record).sum())
    return Picture(
        left,
        right,
        f"{record.path.name}: {int(missed.sum())} of {counted} not found",
        f"{int(false.sum())} of {len(rows)} false",
    )


def _draw(
    image: Image,
    boxes_xyxy: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    wrong: npt.NDArray[np.bool_],
    texts: Sequence[str] = (),
) -> Image:
    """The image with its boxes `[N, 4]`, the `wrong [N]` ones above the rest, with their texts."""
    # many names on a crowded picture hide what they name; the colours tell the classes then
    shown = texts if 0 < len(texts) <= MOST_NAMES else [""] * int(wrong.sum())
    rest = ~wrong
    canvas = draw_boxes(image, boxes_xyxy[rest], labels[rest], [""] * int(rest.sum()), colour=GREY)
    return draw_boxes(canvas, boxes_xyxy[wrong], labels[wrong], shown)


def _crop(
    image: Image, boxes_xyxy: npt.NDArray[np.float32]
) -> tuple[Image, float, npt.NDArray[np.float32]]:
    """The part of an image around boxes `[N, 4]`, N at least 1.

    Returns:
        The part in the size of an example, the factor it was scaled by, and its corner `[4]` as
        x, y, x, y in pixels of the image.
    """
    size_wh = np.array(image.shape[1::-1], dtype=np.float64)
    low = np.clip(boxes_xyxy[:, :2].min(axis=0), 0, size_wh)
    high = np.clip(boxes_xyxy[:, 2:].max(axis=0), 0, size_wh)
    side = max(CONTEXT * float((high - low).max()), LEAST_SHARE * float(size_wh.max()))
    # a square where the image is large enough for it, moved back inside where it sticks out
    part_wh = np.minimum(np.ceil(side), size_wh)
    corner = np.clip(np.round((low + high - part_wh) / 2), 0, size_wh - part_wh)
    (x, y), (width, height) = corner.astype(int), part_wh.astype(int)
    part, scale = fit_to(image[y : y + height, x : x + width], EXAMPLE_SIDE)
    return part, scale, np.array([x, y, x, y], dtype=np.float32)
