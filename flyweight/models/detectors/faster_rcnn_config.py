"""All numbers of a Faster R-CNN, and what they must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from flyweight.core.errors import InputError
from flyweight.models.detectors.config import from_dict, to_dict
from flyweight.models.detectors.pruned import Pruned
from flyweight.models.necks import PYRAMIDS
from flyweight.models.necks.coarser import Source
from flyweight.models.ops.anchors import BoxSizes
from flyweight.models.ops.roi import RoIKind

NO_NECK = "none"


@dataclass(frozen=True)
class FasterRCNNConfig:
    """All numbers of a Faster R-CNN.

    Attributes:
        name: the zoo's name of the preset it comes from.
        num_classes: C, without background.
        backbone: a name of `flyweight.models.backbones`.
        size_hw: height and width of the input, pixels.
        anchor_sizes: of each level the (w, h) of the RPN's anchors, pixels.
        width: multiplier of the channels of backbone, neck and hidden layers.
        backbone_options: of the family of backbones.
        levels: of the backbone, that the neck reads; regions are pooled from as many levels.
        neck: a name of PYRAMIDS, or "none" for one level of the backbone itself.
        neck_channels: of every level, at width 1.
        coarser: what the levels beyond the backbone's, which only the RPN looks at, are made of:
            "pool" (subsampled P5), "P5" or "C5".
        norm: "batch", "cmbn", "group" or "none": of the neck.
        norm_eps, norm_momentum: of BatchNorm.
        backbone_norm: of the backbone.
        backbone_norm_eps: of the backbone's BatchNorm; None for `norm_eps`. Pretrained weights
            need the one they were trained with.
        inside_only: anchors that leave the image take no part in the loss (Ren et al. 2015,
            section 3.1.3).
        rpn_positive_iou, rpn_negative_iou: an anchor is an object's from the one, or where no other
            overlaps the object more; background below the other; ignored between.
        rpn_samples: anchors of an image in the loss.
        rpn_positive_share: of them, at most.
        rpn_candidates_train, rpn_candidates: proposals of a level before NMS.
        proposals_train, proposals: of an image after NMS.
        rpn_nms_iou: IoU above which NMS drops the lower of two proposals.
        rpn_score: probability below which there is no proposal.
        rpn_coder_weights, roi_coder_weights: inverses of the variances of (cx, cy, w, h).
        roi_pool: "align", or "pool" for the ancestor's RoIPool.
        roi_size: cells of a side of a pooled region.
        hidden_channels: of the second stage's two hidden layers, at width 1.
        roi_iou: a region is an object's from this IoU on, else background.
        roi_samples: regions of an image in the loss.
        roi_positive_share: of them, at most.
        roi_sampling: which regions: at "random" in these shares, or the "hardest" of all
            (OHEM, Shrivastava et al. 2016, section 4), which shares do not bind.
        folded: BatchNorm is folded into the convolutions, the modules have none.
        pruned: layers that pruning left narrower than these numbers say.
    """

    family: ClassVar[str] = "faster_rcnn"

    name: str
    num_classes: int
    backbone: str
    size_hw: tuple[int, int]
    anchor_sizes: BoxSizes
    width: float = 1.0
    backbone_options: tuple[tuple[str, Any], ...] = ()
    levels: tuple[str, ...] = ("C2", "C3", "C4", "C5")
    neck: str = "fpn"
    neck_channels: int = 256
    coarser: str = "pool"
    norm: str = "none"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    backbone_norm: str = "batch"
    backbone_norm_eps: float | None = None
    inside_only: bool = False
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_samples: int = 256
    rpn_positive_share: float = 0.5
    rpn_candidates_train: int = 2000
    rpn_candidates: int = 1000
    proposals_train: int = 1000
    proposals: int = 1000
    rpn_nms_iou: float = 0.7
    rpn_score: float = 0.0
    rpn_coder_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    roi_coder_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    roi_pool: RoIKind = "align"
    roi_size: int = 7
    hidden_channels: int = 1024
    roi_iou: float = 0.5
    roi_samples: int = 512
    roi_positive_share: float = 0.25
    roi_sampling: str = "random"
    folded: bool = False
    pruned: Pruned = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the detector's family; `from_dict` reads it back."""
        return to_dict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> FasterRCNNConfig:
        """The inverse of `to_dict`."""
        return from_dict(FasterRCNNConfig, content)


def check_faster_rcnn(config: FasterRCNNConfig) -> None:
    """Raise an InputError where the numbers of a config contradict each other."""
    for field, value, choices in (
        ("neck", config.neck, (NO_NECK, *PYRAMIDS)),
        ("coarser", config.coarser, get_args(Source)),
        ("roi_pool", config.roi_pool, get_args(RoIKind)),
        ("roi_sampling", config.roi_sampling, ("random", "hardest")),
    ):
        if value not in choices:
            raise InputError(
                f"unknown {field} {value!r}", where=field, fix=f"choose {', '.join(choices)}"
            )
    _check_anchors(config)
    if config.rpn_negative_iou > config.rpn_positive_iou:
        raise InputError(
            f"rpn_negative_iou {config.rpn_negative_iou} is above rpn_positive_iou "
            f"{config.rpn_positive_iou}",
            where="rpn_negative_iou",
        )
    for field in ("rpn_positive_share", "roi_positive_share"):
        if not 0 <= getattr(config, field) <= 1:
            raise InputError(f"{field} {getattr(config, field)} is not a share", where=field)
    for field in (
        "rpn_samples",
        "rpn_candidates_train",
        "rpn_candidates",
        "proposals_train",
        "proposals",
        "roi_size",
        "roi_samples",
    ):
        if getattr(config, field) < 1:
            raise InputError(f"{field} must be at least 1", where=field)


def _check_anchors(config: FasterRCNNConfig) -> None:
    levels, needed = len(config.anchor_sizes), len(config.levels)
    if config.neck == NO_NECK and (levels, needed) != (1, 1):
        raise InputError(
            f"without a neck there is one level, not {needed} with anchors for {levels}",
            where="levels",
            fix=f"name one level, or choose a neck: {', '.join(PYRAMIDS)}",
        )
    if not needed or levels < needed:
        raise InputError(
            f"anchors for {levels} levels, but the neck {config.neck!r} reads {needed}",
            where="anchor_sizes",
            fix="give the (w, h) of at least one anchor for each level",
        )
    counts = [len(level) for level in config.anchor_sizes]
    if len(set(counts)) != 1 or 0 in counts:
        raise InputError(
            "the RPN's head is shared by all levels, which need equally many anchors, not "
            f"{counts}",
            where="anchor_sizes",
        )
    if not all(side > 0 for level in config.anchor_sizes for box in level for side in box):
        raise InputError("anchors need sides above 0", where="anchor_sizes")
