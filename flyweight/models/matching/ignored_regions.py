"""Parts of an image where nothing is called background: crowds, and objects nobody is sure of."""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.matching.parts import image_parts
from flyweight.models.matching.two_thresholds import BACKGROUND, IGNORED
from flyweight.models.ops.boxes import box_area, box_intersection

# B images, R regions of an image, A anchors (or predictions, or proposals)

# Of a box's own area: whatever could be taken for the region's object (IoU 0.5) is then inside.
INSIDE = 0.5


@torch.no_grad()
def ignore_in_regions(matches: Tensor, boxes_xyxy: Tensor, regions_xyxy: Tensor | None) -> Tensor:
    """`matches [B, A]` with -2 (ignored) for -1 (background) inside of the regions.

    What evaluation does with detections in a crowd (Lin et al. 2014): a box is inside by the share
    of its own area, whatever the region's. Boxes that have an object keep it.

    Args:
        matches: int64, a slot or a class from 0, or below.
        boxes_xyxy: `[A, 4]` or `[B, A, 4]` pixels.
        regions_xyxy: `[B, R, 4]` pixels, zeros where padded; None for none.
    """
    if regions_xyxy is None or 0 in regions_xyxy.shape[:2]:
        return matches
    boxes = boxes_xyxy.float().expand(len(matches), -1, -1)
    parts = []
    for part in image_parts(len(matches), pairs_per_image=regions_xyxy.shape[1] * boxes.shape[1]):
        common = box_intersection(regions_xyxy[part], boxes[part]).amax(dim=1)
        area = box_area(boxes[part])
        parts.append((common >= INSIDE * area) & (area > 0))
    inside = torch.cat(parts)
    return torch.where((matches == BACKGROUND) & inside, IGNORED, matches)
