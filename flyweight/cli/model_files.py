"""Opening a model file of any kind for the verbs that only run it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight.core.detections import Detections, Predictor
from flyweight.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHECKPOINT_SUFFIX = ".safetensors"


def open_model(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    runtime: str | None = None,
    device: str = "cpu",
) -> Predictor:
    """A predictor for `.onnx`, `.xml` (no torch is loaded) or `.safetensors`."""
    if Path(path).suffix != CHECKPOINT_SUFFIX:
        from flyweight.runtime.load import load_predictor

        return load_predictor(path, threads=threads, runtime=runtime)
    if runtime is not None:
        raise InputError(
            f"a checkpoint does not run in {runtime}",
            where=path,
            fix="export it first with `flyweight export`, or leave the runtime out",
        )
    from flyweight.models.detectors import checkpoint

    detector: Any = checkpoint.load(path, device=_checked_device(device))
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return detector


def detect_one(predictor: Predictor, image: npt.NDArray[np.uint8], *, score: float) -> Detections:
    """Detections of at least `score` in one RGB image `[H, W, 3]`, boxes in its pixels."""
    if hasattr(predictor, "predict"):  # the exported file's predictor drops low scores before NMS
        found: Detections = predictor.predict(image, score=score)
        return found
    return predictor.predict_batch([image])[0].above(score)


def _checked_device(device: str) -> str:
    import torch

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(f"unknown device '{device}'", fix="choose cpu, cuda, cuda:1 or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no CUDA device here", fix="use --device cpu")
    return device
