"""PKD against numpy's correlation; FGD against loops; which levels go together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.distillation.features import (
    FGD_ATTENTION,
    FGD_BACKGROUND,
    FGD_FOREGROUND,
    FGD_TEMPERATURE,
    FeatureDistillation,
    fgd_loss,
    object_masks,
    paired_levels,
    pkd_loss,
)

# two objects of the first image, one in the other; none in the second
OBJECTS = Targets(
    torch.tensor([[[0.0, 0, 32, 16], [0, 0, 16, 16]], [[0.0, 0, 0, 0], [0, 0, 0, 0]]]),
    torch.tensor([[0, 1], [-1, -1]]),
)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_pkd_is_one_less_the_correlation_of_each_channel() -> None:
    student, teacher = drawn(0, 3, 4, 5, 6), drawn(1, 3, 4, 5, 6)
    expected = [
        1 - np.corrcoef(student[:, channel].flatten(), teacher[:, channel].flatten())[0, 1]
        for channel in range(4)
    ]
    assert float(pkd_loss(student, teacher)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_pkd_does_not_see_the_teachers_scale_and_shift() -> None:
    student, teacher = drawn(0, 2, 4, 5, 5), drawn(1, 2, 4, 5, 5)
    scale = torch.tensor([0.5, 2.0, 30.0, 1.0]).view(1, 4, 1, 1)
    shifted = scale * teacher + torch.tensor([3.0, -5, 0, 100]).view(1, 4, 1, 1)
    torch.testing.assert_close(
        pkd_loss(student, shifted), pkd_loss(student, teacher), rtol=1e-3, atol=1e-4
    )
    assert float(pkd_loss(teacher, shifted)) == pytest.approx(0, abs=1e-4)
    assert float(pkd_loss(-teacher, shifted)) == pytest.approx(2, abs=1e-3)


def test_a_channel_that_is_the_same_everywhere_has_a_gradient_that_is_a_number() -> None:
    student = torch.zeros(2, 1, 3, 3, requires_grad=True)
    pkd_loss(student, drawn(0, 2, 1, 3, 3)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    one_cell = torch.ones(1, 2, 1, 1, requires_grad=True)
    assert pkd_loss(one_cell, torch.zeros(1, 2, 1, 1)).item() == 0


def test_objects_weigh_alike_and_the_smaller_wins() -> None:
    """64 pixels on 4 x 4 cells: the large object has cells of 2 x 1, the small one the first."""
    foreground, background = object_masks(OBJECTS, (4, 4), size_hw=(64, 64))
    expected = torch.zeros(2, 4, 4)
    expected[0, 0, :2] = torch.tensor([1.0, 0.5])
    torch.testing.assert_close(foreground, expected)
    assert background[0, 0].tolist() == pytest.approx([0, 0, 1 / 14, 1 / 14])
    torch.testing.assert_close(background[1], torch.full((4, 4), 1 / 16))


def test_fgd_is_the_papers_sum() -> None:
    student, teacher = drawn(0, 2, 3, 4, 4).numpy(), drawn(1, 2, 3, 4, 4).numpy()

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values / FGD_TEMPERATURE)
        return len(values) * powers / powers.sum()

    foreground, background = (
        each.numpy() for each in object_masks(OBJECTS, (4, 4), size_hw=(64, 64))
    )
    total = 0.0
    for image in range(2):
        attention = []
        for features in (student[image], teacher[image]):
            cells = softmax(np.abs(features).mean(0).ravel()).reshape(4, 4)
            attention.append((cells, softmax(np.abs(features).mean((1, 2)))))
        (own_cells, own_channels), (cells, channels) = attention
        for c in range(3):
            for y in range(4):
                for x in range(4):
                    square = (teacher[image, c, y, x] - student[image, c, y, x]) ** 2
                    weight = FGD_FOREGROUND * foreground[image, y, x]
                    weight += FGD_BACKGROUND * background[image, y, x]
                    total += weight * cells[y, x] * channels[c] * square
        looks = np.abs(own_cells - cells).sum() + np.abs(own_channels - channels).sum()
        total += FGD_ATTENTION * looks
    found = fgd_loss(torch.tensor(student), torch.tensor(teacher), OBJECTS, size_hw=(64, 64))
    assert float(found) == pytest.approx(total / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        ([(20, 20), (10, 10)], [(20, 20), (10, 10)], ((0, 0), (1, 1))),
        # half the input: the strides differ, the grids do not
        ([(10, 10), (5, 5), (3, 3)], [(20, 20), (10, 10), (5, 5)], ((0, 1), (1, 2))),
        ([(16, 16), (8, 8)], [(20, 20), (10, 10)], ((0, 0), (1, 1))),
        ([(2, 2), (1, 1), (1, 1)], [(2, 2), (1, 1)], ((0, 0), (1, 1))),
        ([(40, 40)], [(10, 10)], ()),
        ([(10, 20)], [(10, 10)], ()),
    ],
)
def test_levels_of_nearly_one_grid_go_together(
    student: list[tuple[int, int]],
    teacher: list[tuple[int, int]],
    pairs: tuple[tuple[int, int], ...],
) -> None:
    assert paired_levels(student, teacher) == pairs


def test_other_widths_pass_a_convolution(small_detector: Callable[..., Detector]) -> None:
    student = small_detector("ssdlite320_mobilenet_v1")
    wide = small_detector("ssdlite320_mobilenet_v1", width=0.5)
    alike = FeatureDistillation(student, small_detector("ssdlite320_mobilenet_v1"), kind="pkd")
    assert not list(alike.parameters())
    adapted = FeatureDistillation(student, wide, kind="pkd")
    widths = {
        (each.in_channels, each.out_channels)
        for each in adapted.adapters
        if isinstance(each, nn.Conv2d)
    }
    own, theirs = (
        [level.channels for level in each.model.get_submodule("neck").feature_info]  # type: ignore[union-attr]
        for each in (student, wide)
    )
    assert widths == {(a, b) for a, b in zip(own, theirs, strict=True) if a != b}


def test_levels_that_nothing_is_like_are_refused(small_detector: Callable[..., Detector]) -> None:
    student = small_detector("yolov3", size=512)
    with pytest.raises(InputError, match="64×64, 32×32, 16×16 and 4×4"):
        FeatureDistillation(student, small_detector("ssdlite320_mobilenet_v1"), kind="pkd")
