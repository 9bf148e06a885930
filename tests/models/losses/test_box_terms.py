"""Box losses by overlap of the decoded boxes, against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import (
    box_convert,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from flyweight.core.errors import InputError
from flyweight.models.losses.box_terms import make_box_terms
from flyweight.models.losses.smooth_l1 import smooth_l1_terms
from flyweight.models.ops.coder import BoxCoder

TORCHVISION = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Anchors cxcywh `[40, 4]`, deltas and those wanted `[2, 40, 4]`."""
    generator = torch.Generator().manual_seed(0)
    centres = 100 * torch.rand(40, 2, generator=generator)
    anchors = torch.cat((centres, 10 + 40 * torch.rand(40, 2, generator=generator)), dim=1)
    deltas, wanted = 2 * torch.randn(2, 2, 40, 4, generator=generator)
    return anchors, deltas, wanted


@pytest.mark.parametrize("kind", list(TORCHVISION))
def test_overlaps_are_torchvisions_gradients_included(kind: str) -> None:
    anchors, deltas, wanted = scene()
    coder = BoxCoder()
    mine, other = (deltas.clone().requires_grad_() for _ in range(2))
    terms = make_box_terms(kind, anchors_cxcywh=anchors, coder=coder)(mine, wanted)

    # decoded with torchvision's words: Girshick et al. 2014, appendix C, variances 0.1 and 0.2
    def decode(each: torch.Tensor) -> torch.Tensor:
        centres = anchors[:, :2] + each[..., :2] / 10 * anchors[:, 2:]
        sides = anchors[:, 2:] * torch.exp(each[..., 2:] / 5)
        return box_convert(torch.cat((centres, sides), dim=-1), "cxcywh", "xyxy")

    expected = TORCHVISION[kind](decode(other), decode(wanted))
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-4)
    terms.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_right_deltas_cost_nothing_and_smooth_l1_is_the_default_formula() -> None:
    anchors, deltas, wanted = scene()
    coder = BoxCoder()
    for kind in ("smooth_l1", "iou", *TORCHVISION):
        terms = make_box_terms(kind, anchors_cxcywh=anchors, coder=coder, beta=0.5)
        assert terms(wanted, wanted).abs().max() < 1e-5
        assert (terms(deltas, wanted) > 0.01).all()
    smooth = make_box_terms("smooth_l1", anchors_cxcywh=anchors, coder=coder, beta=0.5)
    assert torch.equal(smooth(deltas, wanted), smooth_l1_terms(deltas, wanted, beta=0.5))
    with pytest.raises(InputError, match="unknown box loss 'l2'"):
        make_box_terms("l2", anchors_cxcywh=anchors, coder=coder)
