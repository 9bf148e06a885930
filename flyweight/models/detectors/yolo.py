"""YOLOv3 (Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767) and YOLOv4 (Bochkovskiy, Wang
and Liao 2020, https://arxiv.org/abs/2004.10934).

One file for both, over any backbone: they differ in the backbone and neck that are injected, in
how far a cell reaches, and in the numbers of matching and loss. Published weights are Darknet's
(`darknet_weights.py`); where paper and Darknet differ, this is Darknet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import Backbone
from flyweight.models.detectors.family import ClassRows, Family
from flyweight.models.detectors.parts import (
    make_backbone,
    make_norm,
    named_activation,
)
from flyweight.models.detectors.selection import select_batch
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.yolo_config import (
    BACKBONE_LEVELS,
    YOLO_NECKS,
    YOLOConfig,
    check_yolo,
)
from flyweight.models.heads.initialisation import initialise_head
from flyweight.models.heads.yolo import SHARED_COLUMNS, YOLOHead, initialise_outputs
from flyweight.models.layers import ActFactory, ConvNormAct, DepthwiseSeparable
from flyweight.models.layers.conv import NormFactory
from flyweight.models.losses.yolo import Normalisation, YOLOBoxLoss, yolo_loss
from flyweight.models.matching.ignored_regions import ignore_in_regions
from flyweight.models.matching.yolo import YOLOMatcher, ignore_by_iou
from flyweight.models.necks import PYRAMIDS
from flyweight.models.ops.anchors import AnchorGrid, BoxSizes, pixel_sizes, relative_sizes
from flyweight.models.ops.feature_grids import feature_grids
from flyweight.models.ops.yolo_coder import YOLOCoder

# B images, A anchors, C classes, G object slots

BACKGROUND, IGNORED = -1, -2


class YOLOOutputs(NamedTuple):
    """Raw outputs: `offsets [B, A, 4]` (t_x, t_y, t_w, t_h), `objectness [B, A]` and class
    `logits [B, A, C]`."""

    offsets: Tensor
    objectness: Tensor
    logits: Tensor


class YOLO(nn.Module):
    """Images `[B, 3, H, W]`, normalised, to `YOLOOutputs`."""

    def __init__(self, backbone: Backbone, neck: nn.Module, head: YOLOHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def features(self, images: Tensor) -> list[Tensor]:
        """The levels that the head looks at, `[B, C, H, W]` each, finest first."""
        levels: list[Tensor] = self.neck(self.backbone(images))
        return levels

    def forward(self, images: Tensor) -> YOLOOutputs:
        return YOLOOutputs(*self.head(self.features(images)))


class YOLOObjective(nn.Module):
    """Matching and the losses, over the whole batch at once."""

    def __init__(
        self,
        anchors: AnchorGrid,
        *,
        coder: YOLOCoder,
        matcher: YOLOMatcher,
        ignore_iou: float = 0.7,
        box_loss: YOLOBoxLoss = "offsets",
        label_smoothing: float = 0.0,
        box_weight: float = 1.0,
        objectness_weight: float = 1.0,
        class_weight: float = 1.0,
        normalisation: Normalisation = "positives",
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.coder = coder
        self.matcher = matcher
        self.ignore_iou = ignore_iou
        self.box_loss = box_loss
        self.label_smoothing = label_smoothing
        self.box_weight = box_weight
        self.objectness_weight = objectness_weight
        self.class_weight = class_weight
        self.normalisation = normalisation

    @torch.no_grad()
    def assign(self, predicted_xyxy: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """What each anchor should say.

        Args:
            predicted_xyxy: `[B, A, 4]` pixels, what each says now: a good box of an object that
                another anchor answers for is ignored.

        Returns:
            Boxes `[B, A, 4]` pixels, the anchor's own where it has no object; classes int64
            `[B, A]`, -1 for background and -2 for ignored.
        """
        own = self.anchors.boxes_xyxy.expand_as(predicted_xyxy)
        images, slots = targets.labels.shape
        if slots == 0:
            classes = targets.labels.new_full((images, len(self.anchors)), BACKGROUND)
            return own, ignore_in_regions(classes, predicted_xyxy, targets.ignored_xyxy)
        matches = self.matcher(targets.boxes_xyxy, targets.valid)
        ignored = ignore_by_iou(
            predicted_xyxy, targets.boxes_xyxy, targets.valid, threshold=self.ignore_iou
        )
        positive = matches >= 0
        slot = matches.clamp(min=0)
        elsewhere = torch.where(ignored, IGNORED, BACKGROUND)
        classes = torch.where(positive, targets.labels.gather(1, slot), elsewhere)
        classes = ignore_in_regions(classes, predicted_xyxy, targets.ignored_xyxy)
        boxes = targets.boxes_xyxy.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4))
        return torch.where(positive.unsqueeze(-1), boxes, own), classes

    def forward(self, raw: YOLOOutputs, targets: Targets) -> dict[str, Tensor]:
        """`box`, `objectness` and `class` losses, scalars."""
        offsets = raw.offsets.float()
        predicted = self.coder.decode(offsets)
        boxes, classes = self.assign(predicted.detach(), targets)
        target_offsets = box_scale = None
        if self.box_loss == "offsets":
            height, width = self.anchors.size_hw
            sides = boxes[..., 2:] - boxes[..., :2]
            target_offsets = self.coder.encode(boxes)
            # Small objects weigh more: Darknet's factor, in place of YOLOv1's square roots.
            box_scale = 2 - sides.prod(dim=-1) / (height * width)
        return yolo_loss(
            predicted,
            raw.objectness,
            raw.logits,
            boxes,
            classes,
            kind=self.box_loss,
            label_smoothing=self.label_smoothing,
            normalisation=self.normalisation,
            offsets=offsets,
            target_offsets=target_offsets,
            box_scale=box_scale,
            box_weight=self.box_weight,
            objectness_weight=self.objectness_weight,
            class_weight=self.class_weight,
        )


class YOLOPostprocess(nn.Module):
    """Decoding, thresholds, NMS."""

    limit: Tensor

    def __init__(self, coder: YOLOCoder, *, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.coder = coder
        height, width = size_hw
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        self.register_buffer("limit", limit, persistent=False)

    def decode(self, raw: YOLOOutputs) -> tuple[Tensor, Tensor]:
        """Boxes `xyxy [B, A, 4]` in input pixels, within the input; scores `[B, A, C]`, objectness
        times class probability."""
        boxes = torch.minimum(self.coder.decode(raw.offsets).clamp(min=0), self.limit)
        return boxes, raw.objectness.sigmoid().unsqueeze(-1) * raw.logits.sigmoid()

    def forward(
        self, raw: YOLOOutputs, thresholds: Thresholds
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [K, 4]` (input pixels), `scores [K]`, `labels [K]`."""
        boxes, scores = self.decode(YOLOOutputs(*(each.float() for each in raw)))
        return select_batch(boxes, scores, thresholds)


def separable_conv(
    in_channels: int,
    out_channels: int,
    *,
    stride: int = 1,
    norm: NormFactory | None,
    act: ActFactory,
) -> nn.Module:
    """A 3×3 convolution in depthwise separable form, `act` after both halves."""
    return DepthwiseSeparable(
        in_channels, out_channels, stride=stride, norm=norm, act=act, pointwise_act=act
    )


def make_yolo(config: YOLOConfig) -> YOLO:
    """The network of a config, freshly initialised."""
    # Of fewer levels than three the coarsest, as in YOLOv3-tiny.
    backbone = make_backbone(
        config,
        BACKBONE_LEVELS[-len(config.anchors) :],
        eps=config.norm_eps,
        momentum=config.norm_momentum,
    )
    norm = make_norm(
        config.norm, eps=config.norm_eps, momentum=config.norm_momentum, folded=config.folded
    )
    convs: dict[str, Any] = {
        "act": named_activation(config.act),
        "conv": separable_conv if config.separable else ConvNormAct,
    }
    neck: Any = PYRAMIDS[config.neck](
        backbone.feature_info,
        channels=config.channels,
        num_levels=len(config.anchors),
        norm=norm,
        **(convs if config.neck in YOLO_NECKS else {}),
    )
    head = YOLOHead(
        [level.channels for level in neck.feature_info],
        [len(level) for level in config.anchors],
        num_classes=config.num_classes,
        norm=norm,
        **convs,
    )
    # Not the backbone's initialiser: it makes depthwise weights small, and the gradient of a weight
    # before a norm grows as the weight shrinks.
    initialise_head(neck)
    initialise_head(head)
    initialise_outputs(head, prior=config.prior)
    return YOLO(backbone, neck, head)


def interpret_yolo(config: YOLOConfig, network: YOLO) -> tuple[YOLOObjective, YOLOPostprocess]:
    """What the raw outputs mean at the config's input size: losses and boxes."""
    neck: Any = network.neck
    strides = [float(level.stride) for level in neck.feature_info]
    anchors = AnchorGrid(
        feature_grids(nn.Sequential(network.backbone, neck), config.size_hw),
        relative_sizes(config.anchors, config.size_hw),
        size_hw=config.size_hw,
        steps=strides,
    )
    coder = YOLOCoder(anchors, strides=strides, scale_xy=config.scale_of_levels)
    objective = _make_objective(config, anchors, coder=coder, strides=strides)
    return objective, YOLOPostprocess(coder, size_hw=config.size_hw)


def _make_objective(
    config: YOLOConfig, anchors: AnchorGrid, *, coder: YOLOCoder, strides: Sequence[float]
) -> YOLOObjective:
    return YOLOObjective(
        anchors,
        coder=coder,
        matcher=YOLOMatcher(
            config.anchors,
            anchors.grids,
            [int(stride) for stride in strides],
            iou_threshold=config.match_iou,
        ),
        ignore_iou=config.ignore_iou,
        box_loss=cast(YOLOBoxLoss, config.box_loss),
        label_smoothing=config.label_smoothing,
        box_weight=config.box_weight,
        objectness_weight=config.objectness_weight,
        class_weight=config.class_weight,
        normalisation=cast(Normalisation, config.normalisation),
    )


YOLO_THRESHOLDS = Thresholds(score=0.01, iou=0.45, candidates_per_class=400, max_detections=300)
# Version 4, section 3.4: boxes whose centres lie apart are spared.
YOLOV4_THRESHOLDS = replace(YOLO_THRESHOLDS, nms="diou")
# Darknet's networks see 0 to 1; it pads a letterbox with the middle grey.
DARKNET_SCALING = Preprocessing(
    resize="letterbox", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), pad_value=128
)


def _published(config: YOLOConfig) -> tuple[Preprocessing, Thresholds]:
    version_4 = config.neck == "yolo_pan"
    return DARKNET_SCALING, YOLOV4_THRESHOLDS if version_4 else YOLO_THRESHOLDS


def _with_anchors(config: YOLOConfig, sizes_wh: BoxSizes) -> YOLOConfig:
    return replace(config, anchors=pixel_sizes(sizes_wh, config.size_hw))


FAMILY = Family(
    config=YOLOConfig,
    network=make_yolo,
    interpret=interpret_yolo,
    check=check_yolo,
    published=_published,
    with_anchors=_with_anchors,
    # The last convolution of each level; box and objectness are no class's.
    class_rows=(ClassRows(r"head\.prediction\..*\.output\.", shared=SHARED_COLUMNS),),
)
