"""faster-coco-eval's evaluator fed directly, with PASCAL VOC's difficult objects beside crowds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from faster_coco_eval.core import mask

Annotation = dict[str, Any]
Pair = tuple[int, int]


class BoxEvaluator(COCOeval_faster):
    """Matches and counts boxes; `eval` holds the tables after `evaluate()`.

    Two things differ from the class it stands on.

    - COCO's code ignores by `iscrowd`, which also turns IoU into intersection over the detection's
      area. That is right for a region full of people and wrong for one difficult object: a small
      false detection inside a large difficult box would be forgiven. So annotations carry `crowd`
      apart from `iscrowd`, and only `crowd` changes the overlap.
    - Annotations are handed over as they are, without the COCO class' indices over them, which
      take a third of the time of a large evaluation and are not needed for boxes.
    """

    def __init__(
        self,
        truth: Sequence[Annotation],
        found: Sequence[Annotation],
        *,
        image_ids: Sequence[int],
        category_ids: Sequence[int],
        max_detections: int,
    ) -> None:
        """Boxes are `bbox` xywh in pixels; ids start at 1, as 0 would read as "not matched"."""
        super().__init__(iouType="bbox")
        self.params.imgIds = list(image_ids)
        self.params.catIds = list(category_ids)
        self.params.maxDets = [1, 10, max_detections]
        self._truth, self._found = truth, found

    def _prepare(self) -> None:
        """Fill both sides' stores, as the base class does from its COCO objects."""
        self._truth_of = self._store(self._truth, self.gt_dataset)
        self._found_of = self._store(self._found, self.dt_dataset)
        self._nonempty_iou_pairs = self._truth_of.keys() & self._found_of.keys()

    @staticmethod
    def _store(annotations: Sequence[Annotation], store: Any) -> dict[Pair, list[Annotation]]:
        store.clean()
        # releases before 1.7 copy each annotation and have no other way
        append = getattr(store, "append_ref", store.append)
        pairs: defaultdict[Pair, list[Annotation]] = defaultdict(list)
        for annotation in annotations:
            image_id, category_id = annotation["image_id"], annotation["category_id"]
            append(image_id, category_id, annotation)
            pairs[image_id, category_id].append(annotation)
        return dict(pairs)

    def computeIoU(  # noqa: N802 - the base class' name
        self, imgId: int, catId: int
    ) -> list[float] | np.ndarray:
        """IoU `[D, G]` of one image and class, detections sorted by score."""
        truth, found = self._truth_of.get((imgId, catId)), self._found_of.get((imgId, catId))
        if not truth or not found:
            return []
        order = np.argsort([-d["score"] for d in found], kind="mergesort")
        boxes = [found[i]["bbox"] for i in order[: self.params.maxDets[-1]]]
        overlaps = mask.iou(boxes, [g["bbox"] for g in truth], [g["crowd"] for g in truth])
        return np.asarray(overlaps)
