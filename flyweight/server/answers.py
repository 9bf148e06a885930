"""What the server answers, as its OpenAPI schema shows it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from flyweight.server.micro_batches import Found


class PictureMs(BaseModel):
    """Where a picture's milliseconds went."""

    decode: float = Field(description="Decoding and resizing.")
    wait: float = Field(description="Waiting for the network.")
    detect: float = Field(description="The run of the network, with all pictures of its batch.")


class PictureAnswer(BaseModel):
    """What is in one picture; the lists go together, sorted by score."""

    name: str | None = Field(description="As it was sent.")
    width: int
    height: int
    boxes_xyxy: list[tuple[float, float, float, float]] = Field(
        description="Left, top, right, bottom in pixels of the picture, upright; a box over the "
        "whole of a 10×10 picture is 0, 0, 10, 10."
    )
    scores: list[float] = Field(description="0 to 1.")
    labels: list[int] = Field(description="Class numbers from 0.")
    class_names: list[str] = Field(description="The names of `labels`.")
    batch: int = Field(description="Pictures in the run of the network that this one was in.")
    ms: PictureMs


class DetectAnswer(BaseModel):
    """One entry for each picture, in the order in which they were sent."""

    model: str = Field(description="The detector's name.")
    images: list[PictureAnswer]


class LimitsAnswer(BaseModel):
    """What a request may have."""

    max_bytes: int
    max_pixels: int
    max_pictures: int
    timeout_s: float
    queue: int


class ModelAnswer(BaseModel):
    """The model file, and what the server does with it."""

    runtime: str
    precision: str
    batch: int | None = Field(description="Pictures of a run; null where any number will do.")
    size_hw: tuple[int, int] = Field(description="Of the network's input, pixels.")
    limits: LimitsAnswer
    manifest: dict[str, Any] = Field(
        description="The file's own: model, class_names, preprocessing, thresholds, lineage."
    )


class HealthAnswer(BaseModel):
    """Whether the process lives, and whether it takes requests."""

    live: Literal[True] = True
    ready: bool
    queue: int = Field(description="Pictures that are accepted and not yet answered.")


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    title: str
    status: int
    code: str = Field(description="A word for programs.")
    detail: str = Field(description="A sentence for people.")
    picture: int | None = Field(description="Which picture of the request is meant, from 0.")


def shortest(values: npt.NDArray[np.float32]) -> list[Any]:
    """`values` as Python floats of the fewest digits that are still the same float32."""
    return values.astype(str).astype(np.float64).tolist()


def picture_answer(name: str | None, found: Found, class_names: tuple[str, ...]) -> dict[str, Any]:
    """`PictureAnswer` as a dict: its fields are known to be right."""
    detections, (height, width) = found.detections, found.size_hw
    labels = detections.labels.tolist()
    return {
        "name": name,
        "width": width,
        "height": height,
        "boxes_xyxy": shortest(detections.boxes_xyxy),
        "scores": shortest(detections.scores),
        "labels": labels,
        "class_names": [class_names[label] for label in labels],
        "batch": found.batch,
        "ms": {
            "decode": round(found.decode_s * 1000, 3),
            "wait": round(found.wait_s * 1000, 3),
            "detect": round(found.detect_s * 1000, 3),
        },
    }
