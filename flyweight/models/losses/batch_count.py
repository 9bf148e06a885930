"""How many anchors or regions the losses of a batch are divided by, over all processes of a run."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def mean_over_processes(count: Tensor) -> Tensor:
    """A count, averaged over the processes that train together, as float; alone it stays as it is.

    Their gradients are averaged. Divided each by its own count, objects would weigh more where a
    process has few of them; divided by the mean count, the average is the whole batch's gradient.

    Args:
        count: a scalar.
    """
    mean = count.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return mean
