"""Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497), two stages in one network.

One file for the pyramid of today (Feature Pyramid Networks, https://arxiv.org/abs/1612.03144,
section 4, with RoIAlign) and for the ancestor on one level of VGG-16 with RoIPool: they differ in
the backbone, neck and pooling that are injected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms

from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import Backbone
from flyweight.models.detectors.family import ClassRows, Family
from flyweight.models.detectors.faster_rcnn_config import FasterRCNNConfig, check_faster_rcnn
from flyweight.models.detectors.parts import (
    imagenet_preprocessing,
    make_backbone,
    make_norm,
)
from flyweight.models.detectors.targets import Targets
from flyweight.models.heads.roi import RoIHead
from flyweight.models.heads.rpn import ProposalLayer, RPNHead
from flyweight.models.layers import make_divisible
from flyweight.models.losses.roi import roi_loss, roi_terms
from flyweight.models.losses.rpn import rpn_loss
from flyweight.models.matching.ignored_regions import ignore_in_regions
from flyweight.models.matching.samplers import hardest, sample_balanced
from flyweight.models.matching.two_thresholds import BACKGROUND, TwoThresholdMatcher
from flyweight.models.necks import PYRAMIDS
from flyweight.models.ops.anchors import AnchorGrid, BoxSizes, pixel_sizes, relative_sizes
from flyweight.models.ops.coder import BoxCoder
from flyweight.models.ops.feature_grids import feature_grids
from flyweight.models.ops.nms import select_detections

# B images, A anchors, K proposals, R sampled regions, C classes without background, G object slots,
# D channels of a level

# Detections with a side below this many pixels are dropped, as in torchvision.
SMALLEST_SIDE = 1e-2

# Overlap of regions of which OHEM keeps the hardest (Shrivastava et al. 2016, section 4.2).
OHEM_NMS_IOU = 0.7

# From positives and negatives, bool [B, N] both, to those that enter the loss.
Sampler = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class FasterRCNNOutputs(NamedTuple):
    """Raw outputs: the levels `[B, D, H, W]`, `objectness [B, A]` (logits) and `deltas [B, A, 4]`
    of the RPN, and the second stage, which objective and postprocessing call on their regions.

    They get it here and hold no reference: a copy of a detector can only call its own.
    """

    features: list[Tensor]
    objectness: Tensor
    deltas: Tensor
    roi_head: RoIHead


class FasterRCNN(nn.Module):
    """Images `[B, 3, H, W]`, normalised, to `FasterRCNNOutputs`."""

    def __init__(
        self, backbone: Backbone, neck: nn.Module, rpn_head: RPNHead, roi_head: RoIHead
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head

    def forward(self, images: Tensor) -> FasterRCNNOutputs:
        features: list[Tensor] = self.neck(self.backbone(images))
        objectness, deltas = self.rpn_head(features)
        return FasterRCNNOutputs(features, objectness, deltas, self.roi_head)


class FasterRCNNObjective(nn.Module):
    """Matching, sampling and losses of both stages, trained jointly (section 3.2, (ii))."""

    def __init__(
        self,
        anchors: AnchorGrid,
        *,
        propose: ProposalLayer,
        rpn_coder: BoxCoder,
        rpn_matcher: TwoThresholdMatcher,
        rpn_sampler: Sampler,
        roi_coder: BoxCoder,
        roi_matcher: TwoThresholdMatcher,
        roi_sampler: Sampler,
        regions: int,
        hardest_regions: bool = False,
        inside_only: bool = False,
    ) -> None:
        """`regions` is R, at least what `roi_sampler` chooses of an image; `hardest_regions` takes
        those of highest loss in its place."""
        super().__init__()
        self.anchors = anchors
        self.propose = propose
        self.rpn_coder = rpn_coder
        self.rpn_matcher = rpn_matcher
        self.rpn_sampler = rpn_sampler
        self.roi_coder = roi_coder
        self.roi_matcher = roi_matcher
        self.roi_sampler = roi_sampler
        self.regions = regions
        self.hardest_regions = hardest_regions
        self.inside_only = inside_only

    @torch.no_grad()
    def assign_anchors(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """What the sampled anchors should say.

        Returns:
            Deltas `[B, A, 4]`, zero but for positives; positives and negatives, bool `[B, A]`.
        """
        anchors = self.anchors.boxes_xyxy
        matches = self.rpn_matcher(
            targets.boxes_xyxy,
            targets.valid,
            anchors,
            anchor_valid=self.anchors.inside() if self.inside_only else None,
        )
        matches = ignore_in_regions(matches, anchors, targets.ignored_xyxy)
        positive, negative = self.rpn_sampler(matches >= 0, matches == BACKGROUND)
        return _deltas_to_objects(self.rpn_coder, anchors, matches, targets), positive, negative

    @torch.no_grad()
    def sample_regions(
        self, raw: FasterRCNNOutputs, targets: Targets
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Regions for the second stage: proposals and, so that it never lacks positives, objects.

        Returns:
            `boxes_xyxy [B, R, 4]`; classes int64 `[B, R]`, 0 for background; deltas `[B, R, 4]`,
            zero but for positives; bool `[B, R]`, false where an image gave fewer regions.
        """
        proposals = self.propose(raw.objectness, raw.deltas)
        boxes = torch.cat((proposals.boxes_xyxy, targets.boxes_xyxy), dim=1)
        valid = torch.cat((proposals.valid, targets.valid), dim=1)
        matches = self.roi_matcher(targets.boxes_xyxy, targets.valid, boxes, anchor_valid=valid)
        matches = ignore_in_regions(matches, boxes, targets.ignored_xyxy)
        if self.hardest_regions:
            sampled = self._hardest(raw, boxes, matches, targets)
        else:
            positive, negative = self.roi_sampler(matches >= 0, matches == BACKGROUND)
            sampled = positive | negative
        # One number of regions in all images, the sampled ones first: nothing waits for counts.
        regions = min(self.regions, sampled.shape[1])
        index = sampled.float().topk(regions, dim=1).indices
        boxes = boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        matches, sampled = matches.gather(1, index), sampled.gather(1, index)
        deltas = _deltas_to_objects(self.roi_coder, boxes, matches, targets)
        return boxes, _classes_of_regions(matches, targets), deltas, sampled

    def _hardest(
        self, raw: FasterRCNNOutputs, boxes: Tensor, matches: Tensor, targets: Targets
    ) -> Tensor:
        """bool `[B, N]`: the R regions of highest loss, of those that count.

        A pass over all regions finds them (the read-only network of the paper's figure 2); of those
        that overlap, NMS by loss keeps the hardest, or one mistake would fill the batch.
        """
        counted = (matches >= 0) | (matches == BACKGROUND)
        logits, deltas = raw.roi_head(raw.features, boxes)
        loss = roi_terms(
            logits,
            deltas,
            _classes_of_regions(matches, targets),
            _deltas_to_objects(self.roi_coder, boxes, matches, targets),
        )
        loss = loss.masked_fill(~counted, -torch.inf)
        image = torch.arange(len(boxes), device=boxes.device).unsqueeze(1).expand_as(loss)
        kept = batched_nms(
            boxes.flatten(0, 1), loss.flatten(), image.flatten(), iou_threshold=OHEM_NMS_IOU
        )
        apart = torch.zeros_like(counted).flatten()
        apart[kept] = True
        return hardest(loss, counted & apart.view_as(counted), count=self.regions)

    def forward(self, raw: FasterRCNNOutputs, targets: Targets) -> dict[str, Tensor]:
        """`rpn_objectness`, `rpn_box`, `roi_class` and `roi_box` losses, scalars."""
        losses = rpn_loss(raw.objectness, raw.deltas, *self.assign_anchors(targets))
        boxes, classes, target_deltas, sampled = self.sample_regions(raw, targets)
        logits, deltas = raw.roi_head(raw.features, boxes)
        return losses | roi_loss(logits, deltas, classes, target_deltas, sampled)


def _classes_of_regions(matches: Tensor, targets: Targets) -> Tensor:
    """Classes int64 `[B, N]` of regions that match objects `matches [B, N]`, 0 for background."""
    if targets.labels.shape[1] == 0:
        return torch.zeros_like(matches)
    labels = targets.labels.gather(1, matches.clamp(min=0))
    return torch.where(matches >= 0, labels + 1, 0)


def _deltas_to_objects(
    coder: BoxCoder, boxes_xyxy: Tensor, matches: Tensor, targets: Targets
) -> Tensor:
    """Deltas `[B, N, 4]` from boxes `[N, 4]` or `[B, N, 4]` to their objects `matches [B, N]`."""
    shape = (*matches.shape, 4)
    if targets.labels.shape[1] == 0:
        return boxes_xyxy.new_zeros(shape)
    slot = matches.clamp(min=0).unsqueeze(-1).expand(shape)
    positive = (matches >= 0).unsqueeze(-1)
    # A padded box or slot has no size, and log(0) would poison even what a mask leaves out.
    unit = boxes_xyxy.new_tensor([0.0, 0.0, 1.0, 1.0])
    objects = torch.where(positive, targets.boxes_xyxy.gather(1, slot), unit)
    return coder.encode(objects, torch.where(positive, boxes_xyxy, unit))


class FasterRCNNPostprocess(nn.Module):
    """Proposals, the second stage on them, decoding, thresholds, NMS."""

    def __init__(self, propose: ProposalLayer, *, coder: BoxCoder) -> None:
        super().__init__()
        self.propose = propose
        self.coder = coder

    def regions(self, raw: FasterRCNNOutputs, *, static: bool) -> tuple[Tensor, Tensor]:
        """Of each proposal the box of each class, `xyxy [B, K, C, 4]`, and scores `[B, K, C]`.

        Boxes lie within the input; padding and boxes almost without size have a score of 0.
        """
        proposals = self.propose(raw.objectness, raw.deltas)
        logits, deltas = raw.roi_head(raw.features, proposals.boxes_xyxy, static=static)
        low, high = proposals.boxes_xyxy[..., :2], proposals.boxes_xyxy[..., 2:]
        centred = torch.cat((0.5 * (low + high), high - low), dim=-1)
        boxes = self.coder.decode(deltas[:, :, 1:].float(), centred.unsqueeze(2))
        height, width = self.propose.anchors.size_hw
        limit = boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        sides = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
        seen = proposals.valid.unsqueeze(-1) & (sides >= SMALLEST_SIDE)
        scores = logits.float().softmax(dim=-1)[..., 1:]
        return boxes, torch.where(seen, scores, 0.0)

    def decode(self, raw: FasterRCNNOutputs) -> tuple[Tensor, Tensor]:
        """Boxes `xyxy [B, K·C, 4]` in input pixels, within the input; scores `[B, K·C, C]`.

        A row is a proposal's box for one class, with a score in that class's column only.
        """
        boxes, scores = self.regions(raw, static=True)
        own = torch.eye(scores.shape[-1], device=scores.device)
        return boxes.flatten(1, 2), (scores.unsqueeze(-1) * own).flatten(1, 2)

    def forward(
        self, raw: FasterRCNNOutputs, thresholds: Thresholds
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [N, 4]` (input pixels), `scores [N]`, `labels [N]`."""
        detections = []
        for boxes, scores in zip(*self.regions(raw, static=False), strict=True):
            # The rows of `decode` that can be detections: a few of its K·C.
            proposals, labels = torch.nonzero(scores > thresholds.score, as_tuple=True)
            own = functional.one_hot(labels, scores.shape[-1])
            rows = scores[proposals, labels].unsqueeze(-1) * own
            detections.append(
                select_detections(boxes[proposals, labels], rows, **thresholds.selection())
            )
        return detections


def _make_neck(config: FasterRCNNConfig, backbone: Backbone) -> Any:
    if config.neck == "none":
        neck: Any = nn.Identity()
        neck.feature_info = backbone.feature_info
        return neck
    neck = PYRAMIDS[config.neck](
        backbone.feature_info,
        channels=make_divisible(config.neck_channels * config.width),
        num_levels=len(config.anchor_sizes),
        norm=make_norm(
            config.norm, eps=config.norm_eps, momentum=config.norm_momentum, folded=config.folded
        ),
        coarser=config.coarser,
    )
    for layer in neck.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return neck


def _make_objective(config: FasterRCNNConfig, anchors: AnchorGrid) -> FasterRCNNObjective:
    rpn_coder = BoxCoder(config.rpn_coder_weights)
    return FasterRCNNObjective(
        anchors,
        propose=_make_proposals(
            config, anchors, config.rpn_candidates_train, config.proposals_train
        ),
        rpn_coder=rpn_coder,
        rpn_matcher=TwoThresholdMatcher(
            config.rpn_positive_iou, config.rpn_negative_iou, low_quality=True
        ),
        rpn_sampler=partial(
            sample_balanced, count=config.rpn_samples, positive_share=config.rpn_positive_share
        ),
        roi_coder=BoxCoder(config.roi_coder_weights),
        roi_matcher=TwoThresholdMatcher(config.roi_iou, config.roi_iou, low_quality=False),
        roi_sampler=partial(
            sample_balanced, count=config.roi_samples, positive_share=config.roi_positive_share
        ),
        regions=config.roi_samples,
        hardest_regions=config.roi_sampling == "hardest",
        inside_only=config.inside_only,
    )


def _make_proposals(
    config: FasterRCNNConfig, anchors: AnchorGrid, candidates: int, keep: int
) -> ProposalLayer:
    return ProposalLayer(
        anchors,
        coder=BoxCoder(config.rpn_coder_weights),
        candidates=candidates,
        keep=keep,
        iou_threshold=config.rpn_nms_iou,
        score_threshold=config.rpn_score,
    )


def make_faster_rcnn(config: FasterRCNNConfig) -> FasterRCNN:
    """The network of a config, freshly initialised."""
    backbone = make_backbone(
        config, config.levels, eps=config.norm_eps, momentum=config.norm_momentum
    )
    neck = _make_neck(config, backbone)
    features = neck.feature_info
    rpn_head = RPNHead(features[0].channels, len(config.anchor_sizes[0]))
    roi_head = RoIHead(
        features[0].channels,
        [level.stride for level in features[: len(backbone.feature_info)]],
        num_classes=config.num_classes,
        hidden_channels=make_divisible(config.hidden_channels * config.width),
        pool=config.roi_pool,
        size=config.roi_size,
    )
    return FasterRCNN(backbone, neck, rpn_head, roi_head)


def interpret_faster_rcnn(
    config: FasterRCNNConfig, network: FasterRCNN
) -> tuple[FasterRCNNObjective, FasterRCNNPostprocess]:
    """What the raw outputs mean at the config's input size: losses and boxes."""
    grids = feature_grids(nn.Sequential(network.backbone, network.neck), config.size_hw)
    height, width = config.size_hw
    anchors = AnchorGrid(
        grids,
        relative_sizes(config.anchor_sizes, config.size_hw),
        size_hw=config.size_hw,
        # Whole pixels from cell to cell and centres in the corner, as torchvision's weights need.
        steps=[(height // rows, width // columns) for rows, columns in grids],
        offset=0.0,
    )
    postprocess = FasterRCNNPostprocess(
        _make_proposals(config, anchors, config.rpn_candidates, config.proposals),
        coder=BoxCoder(config.roi_coder_weights),
    )
    return _make_objective(config, anchors), postprocess


# torchvision's; with at most 1,000 proposals no class has more candidates.
THRESHOLDS = Thresholds(score=0.05, iou=0.5, candidates_per_class=1000, max_detections=100)


def _published(config: FasterRCNNConfig) -> tuple[Preprocessing, Thresholds]:
    return imagenet_preprocessing(config.size_hw), THRESHOLDS


def _with_anchors(config: FasterRCNNConfig, sizes_wh: BoxSizes) -> FasterRCNNConfig:
    return replace(config, anchor_sizes=pixel_sizes(sizes_wh, config.size_hw))


FAMILY = Family(
    config=FasterRCNNConfig,
    network=make_faster_rcnn,
    interpret=interpret_faster_rcnn,
    check=check_faster_rcnn,
    published=_published,
    with_anchors=_with_anchors,
    class_rows=(
        ClassRows(r"roi_head\.classification\.", shared=1),
        ClassRows(r"roi_head\.regression\.", shared=1, per_class=4),
    ),
)
