"""Self-adversarial training: pictures changed by the network itself so that it misses objects."""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets


def hide_objects(detector: Detector, images: Tensor, *, pixels: float) -> Tensor:
    """Images in which `detector` finds less, float `[B, H, W, 3]`, 0 to 255.

    Self-adversarial training (Bochkovskiy et al. 2020, YOLOv4, section 3.3): in a forward and
    backward pass the image is altered in place of the weights, to make believe that there is no
    object; then the detector is trained on it as on any other. The alteration is one step along
    the sign of the gradient (Goodfellow et al. 2015, arXiv 1412.6572, equation 1), of the loss
    that the batch would have without objects.

    Norms stand still meanwhile, and no gradient reaches the weights.

    Args:
        images: `[B, H, W, 3]`, uint8 or float.
        pixels: how far each value moves, of 255.
    """
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    try:
        changed = images.detach().float().requires_grad_()
        losses = detector.loss(changed, no_objects(len(images), images.device))
        [gradient] = torch.autograd.grad(torch.stack(list(losses.values())).sum(), changed)
    finally:
        for module, training in modes.items():
            module.training = training
    return (changed.detach() - pixels * gradient.sign()).clamp(0, 255)


def no_objects(images: int, device: torch.device) -> Targets:
    """Targets of so many images without objects."""
    return Targets(
        boxes_xyxy=torch.zeros(images, 1, 4, device=device),
        labels=torch.full((images, 1), -1, dtype=torch.int64, device=device),
    )
