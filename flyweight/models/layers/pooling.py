"""Poolings: global, and the pair that remembers where its maxima were."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class GlobalAveragePool(nn.Module):
    """The mean of each channel over all pixels (Network in Network, section 3.2).

    https://arxiv.org/abs/1312.4400. No parameters and no MACs, C·H·W additions.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        # Not AdaptiveAvgPool2d: on channels_last tensors that exports with a Gather and a Reshape.
        return x.mean((2, 3), keepdim=True)


class IndexedMaxPool(nn.Module):
    """Max pooling that also gives the place of each maximum, for `MaxUnpool`.

    SegNet, https://arxiv.org/abs/1511.00561, section 3. No parameters and no MACs, k²·C·H·W
    comparisons for H·W output pixels.
    """

    def __init__(
        self, kernel_size: int = 2, *, stride: int | None = None, padding: int = 0
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, w] -> maxima [B, C, H, W] and int64 places in the h·w plane [B, C, H, W]."""
        maxima, indices = functional.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, return_indices=True
        )
        return maxima, indices


class MaxUnpool(nn.Module):
    """Maxima back at their places, zeros elsewhere: the inverse of `IndexedMaxPool` on maxima.

    SegNet, https://arxiv.org/abs/1511.00561, section 3. No parameters and no MACs. Where pooling
    windows overlap, several maxima may share a place; they are equal there.
    """

    def forward(self, maxima: Tensor, indices: Tensor, *, size_hw: tuple[int, int]) -> Tensor:
        """[B, C, H, W] and its indices -> [B, C, h, w], the size of the pooling's input."""
        height, width = size_hw
        plane = maxima.new_zeros((*maxima.shape[:2], height * width))
        plane = plane.scatter(2, indices.flatten(2), maxima.flatten(2))
        return plane.unflatten(2, (height, width))
