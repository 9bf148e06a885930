"""Random and hardest samples of anchors."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from flyweight.models.matching.samplers import hardest, sample_balanced


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(counts: list[tuple[int, int]], anchors: int) -> torch.Tensor:
    """Of each image so many positives (1) and negatives (0), the rest ignored (-1), shuffled."""
    rows = []
    for image, (positives, negatives) in enumerate(counts):
        row = torch.full((anchors,), -1)
        row[:positives] = 1
        row[positives : positives + negatives] = 0
        rows.append(row[torch.randperm(anchors, generator=generator(image))])
    return torch.stack(rows)


@pytest.mark.parametrize(("count", "share"), [(256, 0.5), (512, 0.25), (16, 0.0), (8, 1.0)])
def test_counts_are_torchvisions(count: int, share: float) -> None:
    classes = labels([(0, 0), (3, 900), (400, 500), (700, 5), (0, 1000), (10, 20)], 1000)
    positive, negative = sample_balanced(
        classes == 1, classes == 0, count=count, positive_share=share, generator=generator()
    )
    expected = BalancedPositiveNegativeSampler(count, share)(list(classes))
    for mine, theirs in zip((positive, negative), expected, strict=True):
        assert torch.equal(mine.sum(1), torch.stack(theirs).long().sum(1))
    assert not (positive & (classes != 1)).any()
    assert not (negative & (classes != 0)).any()


def test_every_candidate_is_as_likely() -> None:
    # 2,000 images draw 4 of 8 positives and 6 of 30 negatives.
    classes = labels([(8, 30)], 50).expand(2000, -1)
    positive, negative = sample_balanced(
        classes == 1, classes == 0, count=10, positive_share=0.4, generator=generator(1)
    )
    frequency = positive.float().mean(0)[classes[0] == 1]
    assert (frequency - 4 / 8).abs().max() < 5 * (0.25 / 2000) ** 0.5
    frequency = negative.float().mean(0)[classes[0] == 0]
    assert (frequency - 6 / 30).abs().max() < 5 * (0.16 / 2000) ** 0.5


def test_a_generator_repeats_the_draw() -> None:
    classes = labels([(40, 50), (4, 90)], 100)
    draws = [
        sample_balanced(
            classes == 1, classes == 0, count=20, positive_share=0.5, generator=generator(seed)
        )[0]
        for seed in (3, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_hardest_candidates_are_chosen() -> None:
    loss = torch.tensor([[5.0, 9.0, 1.0, 4.0, 3.0], [0.0, 0.0, 2.0, 0.0, 0.0]])
    candidates = torch.tensor([[True, False, True, True, True], [False, False, True, False, False]])
    assert hardest(loss, candidates, count=2).tolist() == [
        [True, False, False, True, False],
        [False, False, True, False, False],
    ]


def test_more_wanted_than_there_are() -> None:
    candidates = torch.tensor([[True, False, True]])
    assert torch.equal(hardest(torch.rand(1, 3), candidates, count=10), candidates)
    none = torch.zeros(2, 0, dtype=torch.bool)
    assert sample_balanced(none, none, count=4, positive_share=0.5)[1].shape == (2, 0)
