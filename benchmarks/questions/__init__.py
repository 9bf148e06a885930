"""The questions of docs/light_networks.md, one a file."""

from __future__ import annotations

from questions import (
    activations,
    channel_ratio,
    depthwise,
    elementwise,
    folding,
    fragmentation,
    groups,
    kernels,
    mobilenet_ssd,
    width_and_resolution,
)
from questions.timing import Question

# In the article's order.
QUESTIONS: dict[str, Question] = {
    "mobilenet_ssd": mobilenet_ssd.QUESTION,
    "depthwise": depthwise.QUESTION,
    "kernels": kernels.QUESTION,
    "width_and_resolution": width_and_resolution.QUESTION,
    "channel_ratio": channel_ratio.QUESTION,
    "groups": groups.QUESTION,
    "fragmentation": fragmentation.QUESTION,
    "elementwise": elementwise.QUESTION,
    "activations": activations.QUESTION,
    "folding": folding.QUESTION,
}
