"""Divergences against torch.distributions, and which rows count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional

from flyweight.training.distillation.logits import (
    localised_mean,
    logit_loss,
    offset_loss,
    row_divergence,
    sigmoid_divergence,
    softmax_divergence,
)
from flyweight.training.distillation.rows import ClassRows


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_divergences_are_those_of_the_softened_distributions(temperature: float) -> None:
    student, teacher = drawn(2, 5, 4), drawn(2, 5, 4, seed=1)
    soft = [Categorical(logits=each / temperature) for each in (teacher, student)]
    found = softmax_divergence(student, teacher, temperature=temperature)
    torch.testing.assert_close(found, temperature**2 * kl_divergence(*soft))
    two = [Bernoulli(logits=each / temperature) for each in (teacher, student)]
    found = sigmoid_divergence(student, teacher, temperature=temperature)
    torch.testing.assert_close(found, temperature**2 * kl_divergence(*two), atol=1e-5, rtol=1e-4)


def test_the_softmax_is_torchs_own_divergence() -> None:
    student, teacher = drawn(7, 4), drawn(7, 4, seed=1)
    expected = functional.kl_div(
        student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean"
    )
    found = softmax_divergence(student, teacher, temperature=1.0).mean()
    torch.testing.assert_close(found, expected)


def test_a_temperature_keeps_the_size_of_gradients() -> None:
    """Hinton et al. 2015, equation 4: at a high temperature the gradient is (z - v) / N."""
    student, teacher = drawn(1, 4).requires_grad_(), drawn(1, 4, seed=1)
    loss = softmax_divergence(student, teacher, temperature=1000.0).sum()
    [gradient] = torch.autograd.grad(loss, student)
    centred = [each - each.mean() for each in (student.detach(), teacher)]
    torch.testing.assert_close(gradient, (centred[0] - centred[1]) / 4, rtol=0.05, atol=0.01)


def test_yolos_classes_count_as_far_as_there_is_an_object() -> None:
    objects = [drawn(1, 2, seed=seed) for seed in (2, 3)]
    classes = [drawn(1, 2, 3, seed=seed) for seed in (4, 5)]
    student, teacher = (
        ClassRows(c, softmax=False, objectness=o) for c, o in zip(classes, objects, strict=True)
    )
    found = row_divergence(student, teacher, temperature=1.0)
    of_objects = kl_divergence(Bernoulli(logits=objects[1]), Bernoulli(logits=objects[0]))
    of_classes = kl_divergence(Bernoulli(logits=classes[1]), Bernoulli(logits=classes[0]))
    expected = of_objects + objects[1].sigmoid() * of_classes.sum(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_rows_count_by_who_sees_something() -> None:
    """By hand: the teacher's rows (2·1 + 4·½) / 1½, and 10·0.8 of the student's own; where all
    weights are below 1 together, they are not blown up."""
    terms = torch.tensor([[2.0, 4.0, 10.0]])
    teacher, student = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[0.0, 0.5, 0.8]])
    assert float(localised_mean(terms, teacher, student)) == pytest.approx(4 / 1.5 + 8)


def test_background_drowns_nothing() -> None:
    """Ten thousand anchors on which both see background change a loss by next to nothing."""
    student, teacher = drawn(1, 3, 4), drawn(1, 3, 4, seed=1)
    empty = torch.tensor([12.0, 0, 0, 0]).expand(1, 10_000, 4)
    quiet = torch.tensor([12.0, 1, 0, 0]).expand(1, 10_000, 4)
    few, many = (
        float(logit_loss(ClassRows(a, softmax=True), ClassRows(b, softmax=True), temperature=2.0))
        for a, b in (
            (student, teacher),
            (torch.cat((student, empty), 1), torch.cat((teacher, quiet), 1)),
        )
    )
    assert few > 1
    assert many == pytest.approx(few, rel=0.2)


def test_ignored_rows_have_no_gradient() -> None:
    student = drawn(1, 4, 3).requires_grad_()
    counted = torch.tensor([[True, False, True, False]])
    loss = logit_loss(
        ClassRows(student, softmax=False),
        ClassRows(drawn(1, 4, 3, seed=1), softmax=False),
        temperature=1.0,
        counted=counted,
    )
    [gradient] = torch.autograd.grad(loss, student)
    assert gradient.abs().sum(-1).gt(0).tolist() == counted.tolist()


def test_offsets_count_where_the_teacher_sees_something() -> None:
    student, teacher = torch.zeros(1, 2, 4), torch.tensor([[[2.0, 0, 0, 0], [50.0, 0, 0, 0]]])
    # smooth L1 of 2 is 1.5
    assert float(offset_loss(student, teacher, torch.tensor([[1.0, 0.0]]))) == pytest.approx(1.5)
