"""The facts that travel with a model file: what it is, what it finds, how its input is made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from flyweight.core.errors import InputError
from flyweight.core.nms import NmsKind
from flyweight.core.preprocessing import Preprocessing
from flyweight.core.printable import check_class_names

METADATA_KEY = "flyweight"
FORMAT_VERSION = 1

MAX_CHARACTERS = 64 << 20
# Of a network's input: beyond it, one picture would take gigabytes.
MAX_SIDE = 8192

# Of a file with weights; its header carries the manifest.
CHECKPOINT_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Thresholds:
    """How dense outputs become detections.

    Attributes:
        score: detections at or below it are dropped before NMS.
        iou: overlap above which NMS drops the lower score.
        candidates_per_class: best boxes of a class that enter NMS.
        max_detections: detections kept per image.
        nms: "greedy", "diou" (distance of the centres counts too), or "soft_linear" and
            "soft_gaussian" (scores fall with the overlap).
        sigma: of the gaussian.
    """

    score: float = 0.01
    iou: float = 0.55
    candidates_per_class: int = 400
    max_detections: int = 300
    nms: NmsKind = "greedy"
    sigma: float = 0.5

    def selection(self) -> dict[str, Any]:
        """The arguments of `select_detections`, of numpy and of torch."""
        return {
            "score_threshold": self.score,
            "iou_threshold": self.iou,
            "candidates_per_class": self.candidates_per_class,
            "max_detections": self.max_detections,
            "kind": self.nms,
            "sigma": self.sigma,
        }


@dataclass(frozen=True)
class Manifest:
    """Everything beside the weights that a file needs in order to be run.

    Attributes:
        model: the detector's config as a JSON-ready dict; its key `name` is the zoo name.
        class_names: in the order of the labels.
        preprocessing: from a picture to the network's input.
        lineage: licence of the code, pretrained weights, data, teacher.
        thresholds: from dense outputs to detections.
    """

    model: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    lineage: dict[str, Any] = field(default_factory=dict)
    thresholds: Thresholds = Thresholds()
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        content = asdict(self) | {"preprocessing": self.preprocessing.to_dict()}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str, *, where: str | None = None) -> Manifest:
        """Read a manifest.

        Raises:
            InputError: it is not one, or it was written by a newer Flyweight.
        """
        try:
            if len(text) > MAX_CHARACTERS:
                raise ValueError(f"{len(text)} characters")
            content = json.loads(text)
            version = int(content["format_version"])
            if version > FORMAT_VERSION:
                raise InputError(
                    f"the file has format version {version}, this Flyweight reads {FORMAT_VERSION}",
                    where=where,
                    fix="install a newer Flyweight",
                )
            manifest = Manifest(
                model=dict(content["model"]),
                class_names=tuple(str(name) for name in content["class_names"]),
                preprocessing=Preprocessing.from_dict(content["preprocessing"]),
                lineage=dict(content["lineage"]),
                thresholds=Thresholds(**content["thresholds"]),
                format_version=version,
            )
            check_class_names(manifest.class_names, where)
            _check_values(manifest)
            return manifest
        except (
            ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError,
        ) as error:  # fmt: skip
            raise InputError(
                "the file's Flyweight manifest cannot be read",
                where=where,
                fix="export or save it again",
            ) from error


def _check_values(manifest: Manifest) -> None:
    """Raise ValueError where something would fail, or take all memory, only when it is used."""
    given, thresholds = manifest.preprocessing, manifest.thresholds
    sides = (*given.size_hw, given.short_side or 1, given.long_side or 1)
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"an input of {sides}")
    if not 0 <= given.pad_value <= 255 or len(given.mean) != 3 or len(given.std) != 3:
        raise ValueError("a padding or a mean that is none")
    counts = (thresholds.candidates_per_class, thresholds.max_detections)
    shares = (thresholds.score, thresholds.iou, thresholds.sigma)
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError(f"counts of {counts}")
    if not all(isinstance(share, int | float) and 0 <= share <= 1e6 for share in shares):
        raise ValueError(f"thresholds of {shares}")
    if not isinstance(manifest.lineage.get("export", {}), dict):
        raise ValueError("a lineage that is none")
