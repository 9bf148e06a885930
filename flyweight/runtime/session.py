"""What a runtime's session is to the predictor, and the facts that sessions share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.manifest import METADATA_KEY, Manifest

# N images, H x W pixels of the input, A anchors, C classes, K detections at most

DENSE_OUTPUTS = ("boxes", "scores")
NMS_OUTPUTS = ("boxes", "scores", "labels", "count")


class Session(Protocol):
    """An exported file, opened by a runtime.

    Attributes:
        runtime: `onnxruntime` or `openvino`.
        manifest: what the file says about itself.
        outputs: `DENSE_OUTPUTS`, or `NMS_OUTPUTS` where NMS is inside the graph.
        batch: the number of images that every run takes; None where any number will do.
        size_hw: of the input.
    """

    runtime: str
    manifest: Manifest
    outputs: tuple[str, ...]
    batch: int | None
    size_hw: tuple[int, int]

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], ...]:
        """Run the graph.

        Args:
            images: uint8 `[N, H, W, 3]`, RGB.

        Returns:
            Arrays in the order of `outputs`: `boxes` float32 `[N, A, 4]` xyxy in input pixels and
            `scores` float32 `[N, A, C]`; or with NMS `boxes [N, K, 4]`, `scores [N, K]`, `labels
            [N, K]`, `count [N]`. They may be overwritten by the next run.
        """
        ...


def available_cores() -> int:
    """The cores that this process may use: fewer than the machine's in a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def checked_threads(threads: int | None) -> int:
    """`threads`, or the available cores where it is None."""
    if threads is None:
        return available_cores()
    if threads < 1:
        raise InputError(f"{threads} threads cannot run anything", fix="give 1 or more")
    return threads


def precision_of(manifest: Manifest) -> str:
    """`fp32` or `int8`: what the file was exported as."""
    return str(manifest.lineage.get("export", {}).get("precision", "fp32"))


def checked_outputs(path: Path, names: list[str]) -> tuple[str, ...]:
    """The output names in the order of the contract."""
    for expected in (NMS_OUTPUTS, DENSE_OUTPUTS):
        if set(names) == set(expected):
            return expected
    raise InputError(
        f"the file's outputs are {', '.join(names)}, not boxes and scores",
        where=path,
        fix="export it again with `flyweight export`",
    )


def checked_manifest(path: Path, text: str | None) -> Manifest:
    """The manifest of `path` from the text found inside, None where there was none."""
    if text is None:
        raise InputError(
            f"the file has no Flyweight manifest (metadata key {METADATA_KEY!r})",
            where=path,
            fix="use a file written by `flyweight export`",
        )
    return Manifest.from_json(text, where=str(path))


def cannot_open(path: Path, kind: str) -> InputError:
    """The error of a file that is not, or no longer, what its suffix says."""
    return InputError(
        f"the file is truncated, or is no {kind} model",
        where=path,
        fix="export it again, or copy it again",
    )


def cannot_run(path: Path, error: Exception) -> InputError:
    """The error of a file that opens, but whose graph fails on a picture."""
    reason = str(error).strip().split("\n")[0][:200]
    return InputError(
        f"the runtime failed on the file: {reason}", where=path, fix="export it again"
    )


def check_exists(path: Path) -> None:
    """Raise where `path` is not a file with something in it."""
    if not path.is_file():
        raise InputError("the model file does not exist", where=path, fix="check the path")
    if path.stat().st_size == 0:
        raise InputError("the model file is empty (0 bytes)", where=path, fix="copy it again")
