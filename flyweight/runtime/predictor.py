"""The torch-free predictor: pictures in, `Detections` out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.core.image import read_image_scaled
from flyweight.core.manifest import Thresholds
from flyweight.core.nms import select_detections
from flyweight.core.preprocessing import Matrix, Preprocessing
from flyweight.runtime.session import DENSE_OUTPUTS, Session
from flyweight.runtime.sources import Source, checked_image, iterate_source

# N images, H x W pixels of the input, A anchors, C classes, K detections at most

Image = npt.NDArray[np.uint8]

# What a person wants to see; evaluation asks for everything above the manifest's own threshold.
DISPLAY_SCORE = 0.3


class Predictor:
    """An exported file that finds objects; see `flyweight.runtime.load.load_predictor`.

    Attributes:
        session: the runtime's session.
        class_names: in the order of the labels.
        preprocessing: from a picture to the input.
        thresholds: from dense outputs to detections.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.manifest = session.manifest
        self.class_names: tuple[str, ...] = self.manifest.class_names
        self.preprocessing: Preprocessing = self.manifest.preprocessing
        self.thresholds: Thresholds = self.manifest.thresholds

    def predict(
        self, image: str | os.PathLike[str] | Image, *, score: float = DISPLAY_SCORE
    ) -> Detections:
        """Detections above `score` in one picture, boxes in the picture's own pixels.

        Args:
            image: a file's path, or an RGB uint8 array `[H, W, 3]`. A JPEG far larger than the
                input is decoded at a reduced size, which changes nothing but the time.
            score: 0 to 1; never below the file's own `thresholds.score`.
        """
        if isinstance(image, np.ndarray):
            return self._detect([checked_image(image)], score)[0]
        pixels, scale_x, scale_y = read_image_scaled(image, self.preprocessing.decode_size_hw)
        found = self._detect([pixels], score)[0]
        if scale_x == scale_y == 1.0:
            return found
        factors = np.array([1 / scale_x, 1 / scale_y] * 2, dtype=np.float32)
        return replace(found, boxes_xyxy=found.boxes_xyxy * factors)

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """All detections of each RGB uint8 `[H, W, 3]` image above `thresholds.score`.

        Boxes are in that image's own pixels. This is what evaluation wants: low scores too.
        """
        return self._detect([checked_image(image) for image in images], 0.0)

    def predict_source(
        self, source: Source, *, score: float = DISPLAY_SCORE
    ) -> Iterator[tuple[str, Image, Detections]]:
        """`(name, image, detections)` for every picture of a file, folder, video or camera.

        Images are RGB uint8 of their own full size, as one wants them for drawing.
        """
        for frame in iterate_source(source):
            yield frame.name, frame.image, self._detect([frame.image], score)[0]

    def _detect(self, images: Sequence[Image], score: float) -> list[Detections]:
        thresholds = replace(self.thresholds, score=max(score, self.thresholds.score))
        prepared = [self.preprocessing.apply(image) for image in images]
        found: list[Detections] = []
        # Several images a run do not make a CPU faster, but a file's batch may be fixed.
        step = self.session.batch or 1
        for start in range(0, len(images), step):
            part = prepared[start : start + step]
            batch = stack_inputs([pixels for pixels, _ in part], step)
            outputs = self.session.run(batch)
            for index, (_, matrix) in enumerate(part):
                image = images[start + index]
                found.append(self._to_image(outputs, index, matrix, image, thresholds))
        return found

    def _to_image(
        self,
        outputs: tuple[npt.NDArray[np.float32], ...],
        index: int,
        matrix: Matrix,
        image: Image,
        thresholds: Thresholds,
    ) -> Detections:
        """Detections of image `index` of a run, boxes in the pixels of `image`."""
        if self.session.outputs == DENSE_OUTPUTS:
            boxes, scores = outputs
            selected = select_detections(
                boxes[index],
                scores[index],
                **thresholds.selection(),
            )
        else:
            boxes, scores, labels, count = outputs
            kept = slice(int(count[index]))
            selected = Detections(boxes[index][kept], scores[index][kept], labels[index][kept])
            # In the graph the threshold is the manifest's; a higher one only shortens the list.
            selected = selected.above(np.nextafter(thresholds.score, 2.0))
        in_image = self.preprocessing.invert_boxes(
            selected.boxes_xyxy, matrix, (image.shape[0], image.shape[1])
        )
        return replace(selected, boxes_xyxy=in_image)


def stack_inputs(inputs: Sequence[Image], batch: int) -> Image:
    """Inputs `[h, w, 3]` as `[batch, h, w, 3]`; the last ones black where there are fewer."""
    if len(inputs) == batch == 1:
        return inputs[0][None]
    missing = batch - len(inputs)
    return np.stack([*inputs, *[np.zeros_like(inputs[0])] * missing])
