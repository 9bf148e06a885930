"""FSAF's anchor-free branch: each object is learnt on the level that does it best.

Feature Selective Anchor-Free Module, Zhu et al. 2019, https://arxiv.org/abs/1903.00621.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.detectors.targets import Targets
from flyweight.models.losses.box_iou_loss import iou_loss
from flyweight.models.losses.focal import focal_terms
from flyweight.models.matching.ignored_regions import ignore_in_regions
from flyweight.models.matching.levels import (
    effective_regions,
    loss_level,
    match_regions,
    mean_in_regions,
)
from flyweight.models.ops.cells import CellGrid

# B images, G object slots of an image, P cells of all levels, C classes

# Section 3.1, "Joint inference and training": weight of this branch's losses beside the anchors'.
WEIGHT = 0.5


class AnchorFreeObjective:
    """The losses of the cells of all levels.

    Args:
        cells: of the pyramid.
        alpha, gamma: of the focal loss.
        weight: of both losses.
    """

    def __init__(
        self, cells: CellGrid, *, alpha: float = 0.25, gamma: float = 2.0, weight: float = WEIGHT
    ) -> None:
        self.cells = cells
        self.alpha = alpha
        self.gamma = gamma
        self.weight = weight

    @torch.no_grad()
    def assign(self, boxes_xyxy: Tensor, logits: Tensor, targets: Targets) -> Tensor:
        """The object of each cell (section 3.2, "Online feature selection").

        Args:
            boxes_xyxy: `[B, P, 4]` as predicted, pixels.
            logits: `[B, P, C]`.

        Returns:
            int64 `[B, P]`: the slot of the object, -1 for background, -2 for ignored.
        """
        grids, strides = self.cells.grids, self.cells.strides
        if targets.labels.shape[1] == 0:
            matches = logits.new_full(logits.shape[:2], -1, dtype=torch.int64)
            return ignore_in_regions(matches, self.cells.squares(), targets.ignored_xyxy)
        regions = effective_regions(targets.boxes_xyxy, targets.valid, grids=grids, strides=strides)
        losses = self._loss_of_pairs(boxes_xyxy, logits, targets)
        cells_per_level = [rows * columns for rows, columns in grids]
        level = loss_level(
            mean_in_regions(losses, regions, cells_per_level=cells_per_level), targets.valid
        )
        matches = match_regions(
            targets.boxes_xyxy, targets.valid, level, grids=grids, strides=strides
        )
        return ignore_in_regions(matches, self.cells.squares(), targets.ignored_xyxy)

    def _loss_of_pairs(self, boxes_xyxy: Tensor, logits: Tensor, targets: Targets) -> Tensor:
        """`[B, G, P]`: what each cell would lose if it were each object's."""
        absent = self._focal(logits, torch.zeros_like(logits))
        present = self._focal(logits, torch.ones_like(logits))
        change = (present - absent).transpose(1, 2)  # [B, C, P]
        label = targets.labels.clamp(min=0).unsqueeze(-1).expand(-1, -1, change.shape[-1])
        classes = absent.sum(-1).unsqueeze(1) + change.gather(1, label)
        boxes = iou_loss(boxes_xyxy.unsqueeze(1), targets.boxes_xyxy.unsqueeze(2), kind="iou")
        return classes + boxes

    def _focal(self, logits: Tensor, targets: Tensor) -> Tensor:
        return focal_terms(logits, targets, alpha=self.alpha, gamma=self.gamma)

    def __call__(self, boxes_xyxy: Tensor, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`cell_box` and `cell_class`, scalars, both divided by the cells that have an object.

        Args:
            boxes_xyxy: `[B, P, 4]` as predicted, pixels.
            logits: `[B, P, C]`.
        """
        matches = self.assign(boxes_xyxy, logits, targets)
        positive = matches >= 0
        share = self.weight / positive.sum().clamp(min=1)
        if targets.labels.shape[1] == 0:
            classes = matches
            box_loss = boxes_xyxy.sum() * 0.0
        else:
            slot = matches.clamp(min=0)
            classes = torch.where(positive, targets.labels.gather(1, slot), matches)
            wanted = targets.boxes_xyxy.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4))
            each = iou_loss(boxes_xyxy, wanted, kind="iou")
            box_loss = torch.where(positive, each, 0.0).sum() * share
        one_hot = classes.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
        focal = self._focal(logits, one_hot.float()).sum(-1)
        return {
            "cell_box": box_loss,
            "cell_class": torch.where(classes >= -1, focal, 0.0).sum() * share,
        }
