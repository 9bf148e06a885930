"""A small labelled data set as `flyweight label` leaves it, and a way to ask its review page."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from pycocotools.coco import COCO

from flyweight.core.image import write_image
from flyweight.labeling.review_server import make_server
from flyweight.labeling.review_store import ReviewStore

SIZE_HW = (60, 80)
# class, score, uncertain, xywh; the margins to the thresholds are 0.45, 0.1; 0.02, 0.2
BOXES = {
    "a.png": [("cup", 0.95, 0, [4, 6, 20, 16]), ("pen", 0.7, 1, [40, 10, 30, 8])],
    "sub/b.png": [("cup", 0.52, 0, [10, 20, 24, 20]), ("cup", 0.3, 1, [50, 30, 12, 10])],
    "c.png": [],
}
CLASSES = ("cup", "pen", "book")
THRESHOLDS = {"cup": 0.5, "pen": 0.8, "book": None}


def write_labels(root: Path) -> Path:
    """Three pictures with four boxes in `root`; gives the COCO file."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, boxes) in enumerate(BOXES.items(), start=1):
        path = root / "images" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((*SIZE_HW, 3), 60 * number, np.uint8))
        height, width = SIZE_HW
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for class_name, score, uncertain, bbox in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CLASSES.index(class_name) + 1,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": uncertain,
                    **({"uncertain": 1} if uncertain else {}),
                    "score": score,
                    "votes": 2,
                    "teachers": ["A"],
                }
            )
    content = {
        "info": {"thresholds": [{"name": n, "upper": u} for n, u in THRESHOLDS.items()]},
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)],
        "images": images,
        "annotations": annotations,
    }
    path = root / "annotations" / "instances_train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


def read_labels(path: Path) -> COCO:
    """The COCO file by COCO's own tools."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def boxes_in(path: Path) -> dict[int, dict[str, Any]]:
    """Its annotations by id, without votes and teachers, which no test changes."""
    annotations = read_labels(path).anns
    for each in annotations.values():
        provenance = each.pop("votes", None), each.pop("teachers", None)
        assert provenance == ((2, ["A"]) if "score" in each else (None, None))
    return dict(annotations)


@contextmanager
def serving(store: ReviewStore) -> Iterator[str]:
    """The address of the page while it is served by a thread."""
    server, address = make_server(store)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    address: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and content of `path`: a GET, or with a body a POST of it as JSON."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = ({"Content-Type": "application/json"} if sent is not None else {}) | (headers or {})
    try:
        connection.request("GET" if sent is None else "POST", parts.path + path, sent, given)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    is_json = response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(data) if is_json else data


def decide(address: str, picture: int, revision: int, **decision: Any) -> tuple[int, Any]:
    """Send a decision."""
    return ask(address, "decide", {"picture": picture, "revision": revision, **decision})
