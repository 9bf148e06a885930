"""Cross mini-batch normalisation."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn


class CmBN(nn.BatchNorm2d):
    """BatchNorm over the mini-batches of one batch so far (CmBN of YOLOv4).

    YOLOv4, https://arxiv.org/abs/2004.10934, section 3.3 and figure 4: where a batch passes in
    several mini-batches and the weights change only after the last (gradient accumulation), each
    mini-batch is normalised with the statistics of all mini-batches of its batch up to itself.
    Because the weights stay, these are exactly the statistics of the mini-batches put together,
    without the compensation that Cross-Iteration BatchNorm needs; the last mini-batch sees those
    of the whole batch. Gradients flow through the mini-batch at hand. Running statistics are
    updated once a batch. In evaluation it is a BatchNorm, with the names of its tensors, and
    folds like one. With one mini-batch a batch it is a BatchNorm in training too.

    `partial(CmBN, mini_batches=4)` is a norm factory. 2·C parameters; no MACs once folded.

    Args:
        mini_batches: how many make up a batch, after which the next one starts anew.
    """

    def __init__(
        self, channels: int, *, mini_batches: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.mini_batches = mini_batches
        self.start_batch()

    def start_batch(self) -> None:
        """Forget the mini-batches so far, where a batch ended early."""
        self._seen = 0
        self._values = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None  # sum of squared deviations from the mean

    def train(self, mode: bool = True) -> Self:
        """A batch never goes on across a change of mode."""
        if mode != self.training:
            self.start_batch()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not self.training or self.mini_batches == 1:
            return super().forward(x)
        mean, squares, values = self._accumulated(x)
        if self._seen == self.mini_batches:
            self._update_running(mean.detach(), squares.detach(), values)
            self.start_batch()
        scale = torch.rsqrt(squares / values + self.eps) * self.weight
        shift = self.bias - mean * scale
        return x * scale.to(x.dtype).view(-1, 1, 1) + shift.to(x.dtype).view(-1, 1, 1)

    def _accumulated(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Mean and sum of squared deviations of the batch so far, and of how many values."""
        values = x.numel() // x.shape[1]
        # In float32 at least: half precision cannot hold sums of squares.
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        squares = variance * values
        if self._mean is not None:
            assert self._squares is not None
            # Chan et al.'s formula for joined samples: no difference of large numbers.
            total = self._values + values
            delta = mean - self._mean
            squares = squares + self._squares + delta**2 * (self._values * values / total)
            mean = self._mean + delta * (values / total)
            values = total
        self._seen += 1
        self._values = values
        self._mean, self._squares = mean.detach(), squares.detach()
        return mean, squares, values

    @torch.no_grad()
    def _update_running(self, mean: Tensor, squares: Tensor, values: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = squares / max(values - 1, 1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
