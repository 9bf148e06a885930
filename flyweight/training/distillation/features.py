"""Features of a teacher's neck: PKD's correlation, and FGD's focal part.

PKD: Cao et al. 2022 (arXiv 2207.02039). FGD: Yang et al. 2022 (arXiv 2111.11837), without its
global part (section 3.3), a network of its own in each level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.ops.feature_grids import feature_grids
from flyweight.training.distillation.teacher import neck_of

# B images, D channels of a level, H x W cells of it, G objects

FeatureLoss = Literal["pkd", "fgd"]

# Between rows (or columns) of two levels that go together.
MOST_UNLIKE = 1.5

# Yang et al. 2022, section 4.1, of one-stage detectors: weights of foreground, background and
# attention, and the temperature of attention.
FGD_FOREGROUND, FGD_BACKGROUND, FGD_ATTENTION = 1e-3, 5e-4, 1e-3
FGD_TEMPERATURE = 0.5


def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of features `[B, D, H, W]`, each channel normalised to mean
    0 and deviation 1 over the batch: 1 less Pearson's correlation (PKD, section 3.2)."""
    return functional.mse_loss(_standardised(student), _standardised(teacher)) / 2


def _standardised(features: Tensor) -> Tensor:
    features = features.float()
    variance, mean = torch.var_mean(features, dim=(0, 2, 3), correction=0, keepdim=True)
    # a root of 0 has no gradient, and a channel that is the same everywhere says nothing
    return (features - mean) * torch.rsqrt(variance + 1e-6)


def fgd_loss(
    student: Tensor, teacher: Tensor, targets: Targets, *, size_hw: tuple[int, int]
) -> Tensor:
    """FGD's focal loss of one level (equations 5 to 11), a scalar.

    Where and in which channels the teacher looks, it counts more; objects weigh alike whatever
    their size, and apart from the background.

    Args:
        student, teacher: `[B, D, H, W]`.
        targets: the objects, pixels of the student's input.
        size_hw: of that input.
    """
    student, teacher = student.float(), teacher.float()
    cells, channels = _attention(teacher)
    own_cells, own_channels = _attention(student)
    foreground, background = object_masks(targets, teacher.shape[-2:], size_hw=size_hw)
    squares = (teacher - student) ** 2 * cells.unsqueeze(1) * channels[..., None, None]
    per_cell = squares.sum(dim=1)
    looks = (own_cells - cells).abs().sum() + (own_channels - channels).abs().sum()
    total = FGD_FOREGROUND * (per_cell * foreground).sum()
    total = total + FGD_BACKGROUND * (per_cell * background).sum()
    return (total + FGD_ATTENTION * looks) / len(student)


def _attention(features: Tensor) -> tuple[Tensor, Tensor]:
    """Attention over cells `[B, H, W]` and over channels `[B, D]`, each 1 on average."""
    size = features.abs()
    cells = size.mean(dim=1).flatten(1)
    channels = size.mean(dim=(2, 3))
    cells, channels = (
        each.shape[1] * (each / FGD_TEMPERATURE).softmax(dim=1) for each in (cells, channels)
    )
    return cells.view(len(features), *features.shape[-2:]), channels


def object_masks(
    targets: Targets, cells_hw: Sequence[int], *, size_hw: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Weights `[B, H, W]` of foreground and background (FGD, equations 2 to 4).

    A cell of an object weighs 1 / its cells, of several objects as the smallest says; a cell of
    none 1 / the cells of none in its image.
    """
    rows, columns = cells_hw
    scale = targets.boxes_xyxy.new_tensor([columns / size_hw[1], rows / size_hw[0]] * 2)
    boxes = targets.boxes_xyxy * scale
    low, high = boxes[..., :2].floor(), boxes[..., 2:].ceil()
    y = torch.arange(rows, device=boxes.device)
    x = torch.arange(columns, device=boxes.device)
    in_rows = (y >= low[..., 1:]) & (y < high[..., 1:])
    in_columns = (x >= low[..., :1]) & (x < high[..., :1])
    inside = in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2) & targets.valid[..., None, None]
    area = inside.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    foreground = torch.zeros(len(boxes), rows, columns, device=boxes.device)
    nothing = ~inside.any(dim=1)
    if inside.shape[1]:
        foreground = (inside / area).amax(dim=1)
    background = nothing / nothing.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return foreground, background


class FeatureDistillation(nn.Module):
    """The loss between the levels of two necks.

    A level of the student goes with the teacher's whose grid is nearest its own (the one of its
    stride, where both have one input size), resampled to it where they differ; a level without one
    is left out. Other widths pass a 1×1 convolution to the teacher's: it is trained with the
    student and belongs to no checkpoint.

    Args:
        kind: "pkd" or "fgd".

    Raises:
        InputError: no two levels are nearly alike.
    """

    def __init__(self, student: Detector, teacher: Detector, *, kind: FeatureLoss) -> None:
        super().__init__()
        self.kind = kind
        self.pairs = paired_levels(_grids(student), _grids(teacher))
        if not self.pairs:
            raise InputError(
                f"no level of the student has nearly the grid of one of the teacher's: "
                f"{_listed(_grids(student))} and {_listed(_grids(teacher))}",
                where="distill features",
                fix="give the student another size, or distil logits or boxes",
            )
        own = [level.channels for level in neck_of(student).feature_info]
        theirs = [level.channels for level in neck_of(teacher).feature_info]
        self.adapters = nn.ModuleList(
            nn.Identity() if own[a] == theirs[b] else nn.Conv2d(own[a], theirs[b], 1)
            for a, b in self.pairs
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        targets: Targets,
        *,
        size_hw: tuple[int, int],
    ) -> Tensor:
        """The mean over the pairs of levels `[B, D, H, W]`, a scalar; `size_hw` is the input's."""
        losses = []
        for (own, others), adapter in zip(self.pairs, self.adapters, strict=True):
            features, wanted = adapter(student[own]), teacher[others]
            if features.shape[-2:] != wanted.shape[-2:]:
                wanted = functional.interpolate(wanted, features.shape[-2:], mode="bilinear")
            if self.kind == "pkd":
                losses.append(pkd_loss(features, wanted))
            else:
                losses.append(fgd_loss(features, wanted, targets, size_hw=size_hw))
        return torch.stack(losses).mean()


def paired_levels(
    student: Sequence[tuple[int, int]], teacher: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """Places of the levels, (student's, teacher's), whose (rows, columns) are nearest each other.

    A level of the teacher goes with one of the student's at most.
    """
    unlike = [
        [max(abs(math.log(a / b)) for a, b in zip(own, others, strict=True)) for others in teacher]
        for own in student
    ]
    pairs, free = [], set(range(len(teacher)))
    for own, distances in enumerate(unlike):
        nearest = min(free, key=lambda place: (distances[place], place), default=None)
        if nearest is not None and distances[nearest] <= math.log(MOST_UNLIKE):
            pairs.append((own, nearest))
            free.remove(nearest)
    return tuple(pairs)


def _grids(detector: Detector) -> tuple[tuple[int, int], ...]:
    network: nn.Module = nn.Sequential(detector.model.get_submodule("backbone"), neck_of(detector))
    return feature_grids(network, detector.preprocessing.size_hw)


def _listed(grids: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{rows}×{columns}" for rows, columns in grids)
