"""How heads and extra levels start before training."""

from __future__ import annotations

import math

from torch import nn

from flyweight.models.heads.dense import DenseHead


def initialise_head(module: nn.Module, *, std: float = 0.03) -> None:
    """Normal weights of deviation `std` and zero biases in every convolution.

    TensorFlow's SSDlite initialiser, which torchvision's recipe follows.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, mean=0.0, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def set_background_prior(classification: DenseHead, prior: float) -> None:
    """Biases such that an untrained softmax head says background with probability `prior`.

    After RetinaNet's prior (Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.1): the
    first steps are not lost on learning that nearly everything is background.
    """
    if not 0 < prior < 1:
        raise ValueError(f"background prior {prior} is not between 0 and 1")
    classes = classification.columns - 1
    for predictor in classification.levels:
        bias = predictor.get_parameter("output.bias")
        nn.init.zeros_(bias)
        bias.data.view(-1, classification.columns)[:, 0] = math.log(classes * prior / (1 - prior))
