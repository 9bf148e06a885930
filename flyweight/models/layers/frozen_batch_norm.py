"""Batch normalisation that training leaves alone."""

from __future__ import annotations

from typing import Self

from torch import nn


class FrozenBatchNorm(nn.BatchNorm2d):
    """A BatchNorm that keeps its statistics, scale and shift: a fixed affine map of each channel.

    As detectors fine-tune from ImageNet with batches too small for statistics (Faster R-CNN in
    https://arxiv.org/abs/1512.03385, appendix A). Names and shapes of its tensors are those of
    BatchNorm2d, and it folds like one. `partial(FrozenBatchNorm, eps=...)` is a norm factory with
    the epsilon of the weights to be loaded.

    No trainable parameters (2·C fixed ones); C·H·W multiply-adds, none once folded.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever the model around it does."""
        return super().train(False)
