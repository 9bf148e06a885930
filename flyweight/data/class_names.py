"""Class names of the public data sets that published weights were trained on."""

from __future__ import annotations

# PASCAL VOC, in the alphabetical order of its development kit and of Caffe's label maps.
VOC = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
]  # fmt: skip

# COCO's category ids from 1 to 90; the empty ones are not used.
_COCO_IDS = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "", "stop sign", "parking meter", "bench", "bird", "cat",
    "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "", "backpack",
    "umbrella", "", "", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket",
    "bottle", "", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair",
    "couch", "potted plant", "bed", "", "dining table", "", "", "toilet", "", "tv", "laptop",
    "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
]  # fmt: skip

COCO = [name for name in _COCO_IDS if name]
COCO_IDS = [name or f"unused {number}" for number, name in enumerate(_COCO_IDS, start=1)]


def published_class_names(count: int) -> tuple[str, ...]:
    """Names for a network of `count` classes whose file has none.

    20 are VOC's, 80 COCO's, 90 COCO's ids from 1, 91 its ids from 0; others are numbered.
    """
    known = {20: VOC, 80: COCO, 90: COCO_IDS, 91: ["unused 0", *COCO_IDS]}
    return tuple(known.get(count) or (f"class {number}" for number in range(count)))
