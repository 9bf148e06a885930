"""What the backbone tests share: one thread, and random weights that say something."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn


def _enliven(model: nn.Module) -> nn.Module:
    """Random scales, shifts and running statistics, fitted so that signals keep their size.

    Fresh running statistics (0 and 1) let activations die out over fifty layers, and zeros equal
    zeros whatever the code does.
    """
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.6, generator=generator)
            module.bias.data.normal_(0.2, 0.3, generator=generator)
            module.momentum = 1.0  # one batch sets the statistics
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(0, 0.1, generator=generator)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 64, 64, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def enliven() -> Callable[[nn.Module], nn.Module]:
    """Gives a model random, but fitting, batch-norm parameters and statistics; evaluation mode."""
    return _enliven


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Networks this small lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
