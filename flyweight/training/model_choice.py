"""Which detector a run trains: a name of the zoo or a checkpoint, made for the data's classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.data.anchor_recall import anchor_recall
from flyweight.data.default_boxes import fit_default_boxes, relative_boxes
from flyweight.data.statistics import channel_statistics
from flyweight.models.detectors import checkpoint, zoo
from flyweight.models.detectors.classes import replace_classes
from flyweight.models.detectors.families import FAMILIES
from flyweight.models.detectors.preset_file import is_preset_file, read_preset
from flyweight.models.detectors.presets.ssd import as_box_sizes

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset
    from flyweight.models.detectors.config import Config
    from flyweight.models.detectors.detector import Detector
    from flyweight.models.ops.anchors import AnchorGrid

Note = Callable[[str], None]

# below this share of objects that some anchor overlaps by half, other boxes are worth a try
ENOUGH_RECALL = 0.9


@dataclass(frozen=True)
class ModelChoice:
    """Which detector to train, apart from the classes, which the data gives.

    Attributes:
        model: a name of the zoo, a preset file, or a checkpoint to go on from.
        size: side of the input in pixels; None for the model's own.
        width: channel multiplier; None for the model's own.
        pretrained: "imagenet", "none" or a file of weights, for the backbone; None is "none".
        anchors: "published" boxes or boxes to "fit" the data; None keeps the model's own.
        normalise: "data" scales channels by the training images' own mean and deviation; None as
            the model or its pretrained weights want it.
        options: other fields of the model's config, such as `{"backbone": "ghostnet"}`.
    """

    model: str | os.PathLike[str]
    size: int | tuple[int, int] | None = None
    width: float | None = None
    pretrained: str | os.PathLike[str] | None = None
    anchors: str | None = None
    normalise: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.anchors not in (None, "published", "fit"):
            raise InputError(f"unknown anchors '{self.anchors}'", fix="choose 'published' or 'fit'")
        if self.normalise not in (None, "data"):
            raise InputError(f"unknown normalise '{self.normalise}'", fix="choose 'data'")
        if self.normalise and (self.is_file or self.starts_pretrained):
            raise InputError(
                "pretrained weights want the mean and deviation that they were trained with",
                where="normalise",
                fix="leave normalise out, or start from random weights",
            )

    @property
    def starts_pretrained(self) -> bool:
        """Whether the backbone of a new model starts from somebody's weights."""
        return self.pretrained not in (None, "none") and not self.is_file

    @property
    def is_file(self) -> bool:
        """Whether the model is a checkpoint rather than a name."""
        path = Path(self.model)
        return path.suffix == ".safetensors" or (path.is_file() and not is_preset_file(path))

    def spelled_out(self) -> ModelChoice:
        """The same choice without its preset file: what is given beside the file goes first."""
        if not is_preset_file(self.model):
            return self
        preset = read_preset(self.model)
        fields = dict(preset.fields)
        size, width = fields.pop("size_hw", None), fields.pop("width", None)
        return replace(
            self,
            model=preset.model,
            size=size if self.size is None else self.size,
            width=width if self.width is None else self.width,
            options={**fields, **self.options},
        )


def make_detector(
    choice: ModelChoice, train_set: DetectionDataset, *, note: Note = lambda text: None
) -> Detector:
    """A detector for the classes of `train_set`, new or from a checkpoint."""
    if choice.is_file:
        detector = _from_checkpoint(choice, train_set, note)
    else:
        detector = _from_zoo(choice, train_set, note)
        if choice.pretrained is None:
            note(
                "training from random weights; on a few hundred images, ImageNet weights "
                "(pretrained imagenet) usually find far more"
            )
    if choice.anchors != "fit":
        _note_objects_out_of_reach(detector, train_set, note)
    return detector


def _note_objects_out_of_reach(detector: Detector, train_set: DetectionDataset, note: Note) -> None:
    """Say which objects no default box overlaps enough to be trained on them."""
    boxes_xyxy, labels = relative_boxes(train_set)
    recall = anchor_recall(
        boxes_xyxy, relative_anchors(detector), labels=labels, class_names=train_set.class_names
    )
    rows = [row for row in recall.by_class if row.recall < ENOUGH_RECALL]
    if recall.total.recall < ENOUGH_RECALL or rows:
        missed = ", ".join(f"{1 - row.recall:.0%} of {row.name}" for row in rows[:6])
        note(
            f"no default box overlaps {1 - recall.total.recall:.0%} of the objects by half "
            f"({missed}): boxes made for this data find such objects better (--anchors fit)"
        )


def anchors_of(model: Detector | ModelChoice) -> AnchorGrid:
    """The default boxes of a detector, or of the one that a choice stands for."""
    if isinstance(model, ModelChoice):
        if model.is_file:
            model = checkpoint.rebuild(checkpoint.load_manifest(model.model))
        else:
            name = os.fspath(model.model)
            model = zoo.build(name, classes=["object"], size=model.size, **model.options)
    objective: Any = model.objective
    boxes: AnchorGrid = objective.anchors
    return boxes


def relative_anchors(detector: Detector) -> npt.NDArray[np.float64]:
    """The detector's default boxes, `[A, 4]` xyxy relative to its input (0..1)."""
    height, width = detector.preprocessing.size_hw
    anchors = anchors_of(detector).boxes_xyxy.cpu().numpy()
    return np.asarray(anchors, dtype=np.float64) / (width, height, width, height)


def fitted_boxes(
    detector: Detector, train_set: DetectionDataset
) -> Sequence[Sequence[tuple[float, float]]]:
    """Default boxes for the objects of `train_set`: per level (w, h) relative to the input."""
    boxes = anchors_of(detector)
    return fit_default_boxes(
        train_set, boxes.grids, boxes.boxes_per_level, boxes.size_hw, boxes.sizes_wh
    )


def _from_zoo(choice: ModelChoice, train_set: DetectionDataset, note: Note) -> Detector:
    name = os.fspath(choice.model)
    shape: dict[str, Any] = {
        "classes": train_set.class_names,
        "size": choice.size,
        "width": choice.width,
        **choice.options,
    }
    if choice.anchors == "fit":
        shape["default_boxes"] = fitted_boxes(zoo.build(name, **shape), train_set)
    if choice.normalise == "data":
        mean, std = channel_statistics(train_set)
        note(f"normalised by the data: mean {_rounded(mean)}, deviation {_rounded(std)}")
        published = zoo.build(name, **shape).preprocessing
        shape["preprocessing"] = replace(published, mean=mean, std=std)
    return zoo.build(name, **shape, pretrained=choice.pretrained or "none")


def _rounded(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _from_checkpoint(choice: ModelChoice, train_set: DetectionDataset, note: Note) -> Detector:
    given = {"width": choice.width, "pretrained": choice.pretrained, **choice.options}
    for option, value in given.items():
        if value is not None:
            raise InputError(
                f"{option} cannot be chosen for a checkpoint, which has its own weights",
                where=os.fspath(choice.model),
                fix=f"leave {option} out, or train a model of the zoo",
            )
    detector = checkpoint.load(choice.model)
    if set(detector.class_names) != set(train_set.class_names):
        kept = [name for name in train_set.class_names if name in detector.class_names]
        note(
            f"the checkpoint finds {listed(detector.class_names)}, the data has "
            f"{listed(train_set.class_names)}: its class head is replaced and learns "
            + (f"anew, except for {listed(kept)}" if kept else "anew")
        )
        detector = replace_classes(detector, train_set.class_names)
    if choice.size is not None:
        size_hw = zoo.checked_size(choice.size)
        detector = _rebuilt(detector, replace(detector.config, size_hw=size_hw))
    if choice.anchors == "fit":
        family = FAMILIES[detector.config.family]
        sizes = as_box_sizes(fitted_boxes(detector, train_set))
        detector = _rebuilt(detector, family.with_anchors(detector.config, sizes))
    return detector


def _rebuilt(detector: Detector, config: Config) -> Detector:
    """The same weights under a config with another input size or other anchors."""
    manifest = detector.manifest()
    preprocessing = manifest.preprocessing.at_size(config.size_hw)
    changed = checkpoint.rebuild(
        replace(manifest, model=config.to_dict(), preprocessing=preprocessing)
    )
    changed.load_state_dict(detector.state_dict())
    return changed


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names for a message, the first few of them."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
