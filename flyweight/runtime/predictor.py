"""The torch-free predictor: pictures in, `Detections` out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Prepared:
    """A picture that is ready for the network.

    Attributes:
        pixels: the network's input, RGB uint8 `[h, w, 3]`.
        matrix: `[2, 3]`, pixels of the decoded picture to pixels of the input.
        decoded_hw: of the decoded picture, which may be smaller than its file says.
        scale_xy: from the file's pixels to the decoded ones.
    """

    pixels: Image
    matrix: Matrix
    decoded_hw: tuple[int, int]
    scale_xy: tuple[float, float] = (1.0, 1.0)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the picture as its file says, pixels."""
        (height, width), (scale_x, scale_y) = self.decoded_hw, self.scale_xy
        return round(height / scale_y), round(width / scale_x)


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
        return self._detect([self.prepare(image)], score)[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """All detections of each RGB uint8 `[H, W, 3]` image above `thresholds.score`.

        Boxes are in that image's own pixels. This is what evaluation wants: low scores too.
        """
        return self._detect([self.prepare(checked_image(image)) for image in images], 0.0)

    def predict_source(
        self, source: Source, *, score: float = DISPLAY_SCORE
    ) -> Iterator[tuple[str, Image, Detections]]:
        """`(name, image, detections)` for every picture of a file, folder, video or camera.

        Images are RGB uint8 of their own full size, as one wants them for drawing.
        """
        for frame in iterate_source(source):
            yield frame.name, frame.image, self._detect([self.prepare(frame.image)], score)[0]

    def prepare(self, image: str | os.PathLike[str] | bytes | Image) -> Prepared:
        """Decode and resize: what can be done to one picture while another is in the network.

        Args:
            image: a file's path or its bytes, or an RGB uint8 array `[H, W, 3]`.

        Raises:
            InputError: it is no whole picture.
        """
        if isinstance(image, np.ndarray):
            decoded, scale_xy = checked_image(image), (1.0, 1.0)
        else:
            decoded, *scales = read_image_scaled(image, self.preprocessing.decode_size_hw)
            scale_xy = (scales[0], scales[1])
        pixels, matrix = self.preprocessing.apply(decoded)
        return Prepared(pixels, matrix, (decoded.shape[0], decoded.shape[1]), scale_xy)

    def run(self, prepared: Sequence[Prepared], *, scores: Sequence[float]) -> list[Detections]:
        """One run of the network: the detections of each picture above its own score.

        Args:
            prepared: at most `session.batch`; any number where that is None.
            scores: one a picture, 0 to 1; never below the file's own `thresholds.score`.
        """
        batch = stack_inputs([each.pixels for each in prepared], self.session.batch)
        outputs = self.session.run(batch)
        return [
            self._to_image(outputs, index, each, max(score, self.thresholds.score))
            for index, (each, score) in enumerate(zip(prepared, scores, strict=True))
        ]

    def _detect(self, prepared: Sequence[Prepared], score: float) -> list[Detections]:
        # Several images a run do not make a CPU faster, but a file's batch may be fixed.
        step = self.session.batch or 1
        found: list[Detections] = []
        for start in range(0, len(prepared), step):
            part = prepared[start : start + step]
            found += self.run(part, scores=[score] * len(part))
        return found

    def _to_image(
        self,
        outputs: tuple[npt.NDArray[np.float32], ...],
        index: int,
        prepared: Prepared,
        score: float,
    ) -> Detections:
        """Detections of image `index` of a run, boxes in the pixels of its picture."""
        if self.session.outputs == DENSE_OUTPUTS:
            boxes, confidences = outputs
            thresholds = replace(self.thresholds, score=score)
            selected = select_detections(
                boxes[index],
                confidences[index],
                **thresholds.selection(),
            )
        else:
            boxes, confidences, labels, count = outputs
            kept = slice(int(count[index]))
            selected = Detections(boxes[index][kept], confidences[index][kept], labels[index][kept])
            # In the graph the threshold is the manifest's; a higher one only shortens the list.
            selected = selected.above(np.nextafter(score, 2.0))
        in_image = self.preprocessing.invert_boxes(
            selected.boxes_xyxy, prepared.matrix, prepared.decoded_hw
        )
        if prepared.scale_xy != (1.0, 1.0):
            in_image = in_image * (1 / np.array(prepared.scale_xy * 2)).astype(np.float32)
        return replace(selected, boxes_xyxy=in_image)


def stack_inputs(inputs: Sequence[Image], batch: int | None) -> Image:
    """Inputs `[h, w, 3]` as `[batch, h, w, 3]`; the last ones black where there are fewer.

    A `batch` of None takes as many as there are.
    """
    if len(inputs) == 1 and batch in (1, None):
        return inputs[0][None]
    missing = 0 if batch is None else batch - len(inputs)
    return np.stack([*inputs, *[np.zeros_like(inputs[0])] * missing])
