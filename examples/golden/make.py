"""Make the golden vectors anew: `python examples/golden/make.py` (two minutes of one core).

A tiny detector is trained on shapes drawn here, exported, and run on three pictures. What lies in
this folder afterwards is what every example and runtime has to reproduce:

- `shapes.onnx`, and in 16 bits `shapes-fp16.ncnn.param` with its .bin and .json: 128 x 128 pixels
  in, three classes; no one else's weights or pictures are in it.
- `same.png`, `wide.png`, `tall.png`: of the input's size, shrunk by less than 2 (bilinear) and by
  more than 2 (by area), the last two of other aspect ratios.
- `golden.json`: what the Python `Predictor` finds in them, and how far another may be from it.
- `dense.npz`: inputs, boxes and scores on the way there, to find where two runtimes part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from shapes import CLASS_NAMES, Image, draw_shapes

from flyweight.core.boxes import box_iou
from flyweight.core.detections import Detections
from flyweight.core.files import write_atomically
from flyweight.core.image import write_image
from flyweight.data.coco import save_coco
from flyweight.data.records import DetectionDataset, Record
from flyweight.export.export import export
from flyweight.models.detectors import checkpoint
from flyweight.runtime.load import load_predictor
from flyweight.runtime.predictor import DISPLAY_SCORE, Predictor
from flyweight.training.run import train_on_folder

MODEL = "ssdlite320_mobilenet_v1"
SIZE = 128
WIDTH = 0.1
TRAIN, VAL = 400, 40
SETTINGS: dict[str, Any] = {
    "epochs": 24,
    "batch_size": 8,
    "lr": 5e-3,
    "ema_decay": 0.98,
    "augmentation": "none",
    "eval_every": 24,
    "seed": 0,
    "workers": 0,
    "device": "cpu",
}
# name: height and width of the picture
PICTURES = {"same": (128, 128), "wide": (150, 240), "tall": (300, 220)}
# Pixels and scores that other arithmetic may change: another runtime's (export's own limits of
# parity), and that of weights in 16 bits.
MODELS = {
    "shapes.onnx": {"box_pixels": 0.05, "score": 1e-3},
    "shapes-fp16.ncnn.param": {"box_pixels": 0.2, "score": 5e-3},
}
# Another OpenCV may round a grey level of a resized picture otherwise.
INPUT_LEVELS = 1
# No rounding may decide: no score this close to the threshold, no pair this close to NMS's, no two
# scores this close to each other.
SCORE_MARGIN = 0.06
IOU_MARGIN = 0.05
RANK_MARGIN = 0.01
# Pictures that are looked at for one like that.
SEARCHED = 5000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = train_and_export(Path(folder), out)
    predictor = load_predictor(model, threads=1)
    dense: dict[str, npt.NDArray[Any]] = {}
    expected = []
    for number, (name, size_hw) in enumerate(PICTURES.items()):
        image, found = first_clear(predictor, size_hw, seed=number)
        path = out / f"{name}.png"
        write_image(path, image)
        expected.append(
            {
                "file": path.name,
                "size_hw": list(size_hw),
                "detections": found.to_list(CLASS_NAMES),
            }
        )
        pixels, _ = predictor.preprocessing.apply(image)
        boxes, scores = predictor.session.run(pixels[None])
        dense |= {f"{name}_input": pixels, f"{name}_boxes": boxes[0], f"{name}_scores": scores[0]}
    content = {
        "models": MODELS,
        "input_levels": INPUT_LEVELS,
        "class_names": list(CLASS_NAMES),
        "score": DISPLAY_SCORE,
        "pictures": expected,
    }
    with write_atomically(out / "dense.npz") as temporary:
        np.savez_compressed(temporary, **dense)
    with write_atomically(out / "golden.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def train_and_export(folder: Path, out: Path) -> Path:
    """The .onnx file of a detector that was trained in `folder`."""
    data = save_coco(
        {
            "train": shapes_dataset(folder / "train", TRAIN, 0),
            "val": shapes_dataset(folder / "val", VAL, 1),
        },
        folder / "data",
        link=True,
    )
    trained = train_on_folder(
        MODEL,
        data,
        folder / "run",
        size=SIZE,
        width=WIDTH,
        pretrained="none",
        anchors="fit",
        **SETTINGS,
    )
    print(f"AP {trained.metrics['AP']:.3f} on {VAL} pictures that it has not seen")
    detector = checkpoint.load(trained.checkpoint)
    export(detector, ["ncnn"], out, precision="fp16", name="shapes")
    (written,) = export(detector, ["onnx"], out, name="shapes")
    return written.path


def shapes_dataset(folder: Path, pictures: int, split: int) -> DetectionDataset:
    """So many pictures of the network's size, written into `folder`."""
    folder.mkdir()
    records = []
    for number in range(pictures):
        image, boxes_xyxy, labels = draw_shapes([split, number], (SIZE, SIZE))
        nothing = np.zeros(len(labels), dtype=bool)
        path = folder / f"{split}_{number:04d}.png"
        write_image(path, image)
        records.append(
            Record(
                number,
                path,
                (SIZE, SIZE),
                boxes_xyxy,
                labels,
                crowd=nothing,
                difficult=nothing,
            )
        )
    return DetectionDataset(
        tuple(records), CLASS_NAMES, root=folder, split=("train", "val")[split], format="coco"
    )


def first_clear(
    predictor: Predictor, size_hw: tuple[int, int], *, seed: int
) -> tuple[Image, Detections]:
    """The first picture with every class, all its objects found, no decision close."""
    for number in range(SEARCHED):
        image, boxes_xyxy, labels = draw_shapes([2, seed, number], size_hw)
        found = predictor.predict(image)
        if len(set(labels)) < len(CLASS_NAMES) or not all_found(found, boxes_xyxy, labels):
            continue
        if np.diff(-found.scores).min() < RANK_MARGIN:
            continue
        if all(same(found, other) for other in variations(predictor, image)):
            return image, found
    raise SystemExit(f"no clear picture of {size_hw} among {SEARCHED}: train for longer")


def all_found(
    found: Detections, boxes_xyxy: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> bool:
    """Whether each object has one detection of its class at IoU 0.5, and nothing else is found."""
    if len(found) != len(labels):
        return False
    fits = (box_iou(boxes_xyxy, found.boxes_xyxy) > 0.5) & (labels[:, None] == found.labels)
    return bool((fits.sum(axis=0) == 1).all() and (fits.sum(axis=1) == 1).all())


def variations(predictor: Predictor, image: Image) -> Iterator[Detections]:
    """What is found with thresholds that lie somewhat lower and higher."""
    for factor in (-1, 1):
        yield predictor.predict(image, score=DISPLAY_SCORE + factor * SCORE_MARGIN)
        iou = predictor.thresholds.iou + factor * IOU_MARGIN
        moved = Predictor(predictor.session)
        moved.thresholds = replace(predictor.thresholds, iou=iou)
        yield moved.predict(image)


def same(first: Detections, second: Detections) -> bool:
    """Whether both are equal bit by bit."""
    return len(first) == len(second) and np.array_equal(first.boxes_xyxy, second.boxes_xyxy)


if __name__ == "__main__":
    main()
