"""What a prediction really looks at: the gradient of its cell at the input.

Luo et al. 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks", https://arxiv.org/abs/1701.04128: the centre of the theoretical field counts far more
than its border, and the part that matters grows only with the root of the depth.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from flyweight.models.detectors.detector import Detector
from flyweight.profiling.receptive_field import prediction_levels
from flyweight.profiling.trace import trace_detector

SHARE = 0.95


@dataclass(frozen=True)
class EffectiveField:
    """What the middle cell of one level of predictions depends on.

    Attributes:
        layer: that predicts.
        stride: of the level, pixels.
        theoretical: side of the receptive field, pixels; None where it is not local.
        side: of the smallest square around the cell's own place that holds most of `energy`.
        centre_xy: middle of that square, pixels.
        energy: `[H, W]`, squared gradient at each pixel, as a share of all.
    """

    layer: str
    stride: int | None
    theoretical: int | None
    side: int
    centre_xy: tuple[float, float]
    energy: npt.NDArray[np.float64]


def effective_receptive_fields(
    detector: Detector,
    *,
    size_hw: tuple[int, int] | None = None,
    share: float = SHARE,
    images: int = 4,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[EffectiveField]:
    """The effective field of each level of predictions, finest first.

    Args:
        detector: with the weights whose field is asked for: training widens it.
        size_hw: of the input, pixels; by default the detector's own.
        share: of the energy that counts.
        images: of noise that the gradients are averaged over.
        seed: of the noise.
        device: to compute on.
    """
    size_hw = detector.preprocessing.size_hw if size_hw is None else size_hw
    levels = prediction_levels(trace_detector(detector, size_hw=size_hw))
    model = copy.deepcopy(detector.model).to(device).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((images, 3, *size_hw), generator=generator).to(device)
    noise.requires_grad_(True)
    maps = _maps(model, noise, [each.layer for each in levels])
    fields = []
    for level, cells in zip(levels, maps, strict=True):
        rows, columns = cells.shape[-2:]
        middle = cells[..., rows // 2, columns // 2].sum()
        (gradient,) = torch.autograd.grad(middle, noise, retain_graph=True)
        energy = gradient.double().square().sum((0, 1)).cpu().numpy()
        energy /= max(energy.sum(), np.finfo(np.float64).tiny)
        centre = (
            (columns // 2 + 0.5) * size_hw[1] / columns,
            (rows // 2 + 0.5) * size_hw[0] / rows,
        )
        fields.append(
            EffectiveField(
                level.layer,
                level.stride,
                level.receptive_field,
                side_with_share(energy, centre, share=share),
                centre,
                energy,
            )
        )
    return fields


def side_with_share(
    energy: npt.NDArray[np.float64], centre_xy: tuple[float, float], *, share: float = SHARE
) -> int:
    """Side in pixels of the smallest square around `centre_xy` with `share` of `energy [H, W]`."""
    height, width = energy.shape
    across = np.abs(np.arange(width) + 0.5 - centre_xy[0])
    down = np.abs(np.arange(height) + 0.5 - centre_xy[1])
    # Half the side of the square that just holds a pixel whole.
    half = np.maximum(across[None, :], down[:, None]).ravel() + 0.5
    order = np.argsort(half, kind="stable")
    held = np.cumsum(energy.ravel()[order])
    place = min(int(np.searchsorted(held, share * held[-1])), len(order) - 1)
    return int(np.ceil(2 * half[order[place]]))


def _maps(model: nn.Module, images: Tensor, layers: list[str]) -> list[Tensor]:
    """What `layers` give, `[B, C, H, W]`: one that is there twice gives its maps in turn."""
    given: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    hooks = []
    for layer in given:

        def keep(_: nn.Module, __: Any, output: Tensor, layer: str = layer) -> None:
            given[layer].append(output)

        hooks.append(model.get_submodule(layer).register_forward_hook(keep))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [given[layer].pop(0) for layer in layers]
