"""Class outputs of a teacher: the divergence of the student's from them, where anything is seen.

Hinton et al. 2015 (arXiv 1503.02531), section 2: both distributions softened by a temperature τ,
the loss multiplied by τ² so that gradients keep their size. A sigmoid is a distribution of two.
Anchors on background are thousands and say little; as in Chen et al. 2017 (NeurIPS, section 3.2),
who weigh background otherwise than objects, each anchor counts by how sure one of the two is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.batch_count import mean_over_processes
from flyweight.training.distillation.rows import ClassRows

# B images, A rows, C classes


def softmax_divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """`τ² KL(teacher ‖ student)` of each row, `[...]`, from logits `[..., C + 1]`."""
    wanted = (teacher / temperature).log_softmax(dim=-1)
    found = (student / temperature).log_softmax(dim=-1)
    terms = functional.kl_div(found, wanted, reduction="none", log_target=True)
    return temperature**2 * terms.sum(dim=-1)


def sigmoid_divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """`τ² KL(teacher ‖ student)` of each Bernoulli distribution, `[...]`, from logits `[...]`."""
    student, teacher = student / temperature, teacher / temperature
    yes = teacher.sigmoid() * (functional.logsigmoid(teacher) - functional.logsigmoid(student))
    no = (-teacher).sigmoid() * (functional.logsigmoid(-teacher) - functional.logsigmoid(-student))
    return temperature**2 * (yes + no)


def row_divergence(student: ClassRows, teacher: ClassRows, *, temperature: float) -> Tensor:
    """The divergence of each row, `[B, A]`, over all of its outputs.

    Of YOLO's rows the classes count as far as the teacher says that there is an object.
    """
    if student.softmax:
        return softmax_divergence(student.logits, teacher.logits, temperature=temperature)
    classes = sigmoid_divergence(student.logits, teacher.logits, temperature=temperature).sum(-1)
    if student.objectness is None or teacher.objectness is None:
        return classes
    objects = sigmoid_divergence(student.objectness, teacher.objectness, temperature=temperature)
    return objects + teacher.objectness.sigmoid() * classes


def localised_mean(terms: Tensor, teacher_sees: Tensor, student_sees: Tensor) -> Tensor:
    """Mean of the terms where the teacher sees something, and where the student alone does.

    Two means, so that neither drowns the other: an untrained softmax sees objects everywhere.

    Args:
        terms: `[B, A]`.
        teacher_sees: `[B, A]`, 0 to 1.
        student_sees: `[B, A]`, 0 to 1; no gradient goes through it.
    """
    alone = (student_sees.detach() - teacher_sees).clamp(min=0)
    return sum(
        (
            (weight * terms).sum() / mean_over_processes(weight.sum()).clamp(min=1)
            for weight in (teacher_sees, alone)
        ),
        start=terms.new_zeros(()),
    )


def logit_loss(
    student: ClassRows,
    teacher: ClassRows,
    *,
    temperature: float,
    counted: Tensor | None = None,
) -> Tensor:
    """The divergence of the student's rows from the teacher's, a scalar.

    Args:
        counted: bool `[B, A]`, false where a row is ignored; None for all.
    """
    terms = row_divergence(student, teacher, temperature=temperature)
    if counted is not None:
        terms = torch.where(counted, terms, 0.0)
    return localised_mean(terms, teacher.foreground(), student.foreground())


def offset_loss(student: Tensor, teacher: Tensor, teacher_sees: Tensor) -> Tensor:
    """Smooth L1 of offsets `[B, A, 4]`, its mean where the teacher sees something; a scalar."""
    terms = functional.smooth_l1_loss(student, teacher, reduction="none").sum(dim=-1)
    return (teacher_sees * terms).sum() / mean_over_processes(teacher_sees.sum()).clamp(min=1)
