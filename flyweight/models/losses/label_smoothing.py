"""Label smoothing (Szegedy et al. 2016, section 7) for classes that each have a sigmoid."""

from __future__ import annotations

from torch import Tensor


def smooth_targets(targets: Tensor, *, smoothing: float) -> Tensor:
    """`y (1 - ε) + ε / 2`: each sigmoid is a choice of two, so the uniform share is a half.

    As Darknet does it for YOLOv4 (`label_smooth_eps`).

    Args:
        targets: float `[..., C]`, 0 to 1.
        smoothing: ε, 0 for none.

    Returns:
        `[..., C]`.
    """
    return targets * (1 - smoothing) + 0.5 * smoothing
