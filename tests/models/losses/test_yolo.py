"""YOLO's loss against a restatement with loops, float64, anchor by anchor."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from flyweight.models.losses.yolo import offset_terms, yolo_loss

IMAGES, ANCHORS, CLASSES = 2, 25, 4


def softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def cross_entropy(logit: float, target: float) -> float:
    return softplus(logit) - target * logit


def overlap_loss(a: list[float], b: list[float], kind: str) -> float:
    """One minus the measure of two boxes `xyxy`, as the papers write it."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    (aw, ah), (bw, bh) = ((box[2] - box[0], box[3] - box[1]) for box in (a, b))
    union = aw * ah + bw * bh - width * height
    iou = width * height / union
    cw, ch = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    if kind == "iou":
        return 1 - iou
    if kind == "giou":
        return 1 - iou + (cw * ch - union) / (cw * ch)
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    loss = 1 - iou + (dx**2 + dy**2) / (cw**2 + ch**2)
    if kind == "ciou":
        v = 4 / math.pi**2 * (math.atan(bw / bh) - math.atan(aw / ah)) ** 2
        loss += v * v / (1 - iou + v)
    return loss


def restated(raw: dict[str, Any], classes: list[list[int]], *, kind: str, smoothing: float) -> Any:
    """Sums of box, objectness and classes over a batch, and its positives."""
    box = objectness = by_class = 0.0
    positives = 0
    for image, row in enumerate(classes):
        for anchor, label in enumerate(row):
            if label >= -1:
                objectness += cross_entropy(raw["objectness"][image][anchor], float(label >= 0))
            if label < 0:
                continue
            positives += 1
            for index, logit in enumerate(raw["logits"][image][anchor]):
                target = float(index == label) * (1 - smoothing) + smoothing / 2
                by_class += cross_entropy(logit, target)
            scale = raw["scale"][image][anchor]
            if kind == "offsets":
                t, g = raw["offsets"][image][anchor], raw["target_offsets"][image][anchor]
                terms = [cross_entropy(t[i], g[i]) for i in (0, 1)]
                box += scale * sum(terms + [0.5 * (t[i] - g[i]) ** 2 for i in (2, 3)])
            else:
                pair = raw["boxes"][image][anchor], raw["target_boxes"][image][anchor]
                box += scale * overlap_loss(*pair, kind)
    return box, objectness, by_class, positives


def batch() -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(IMAGES, ANCHORS, *shape, generator=generator)

    def boxes() -> Tensor:
        corner = normal(2) * 5
        return torch.cat((corner, corner + 2 + normal(2).abs() * 8), dim=-1)

    raw = {
        "boxes": boxes(),
        "objectness": normal() * 2,
        "logits": normal(CLASSES) * 2,
        "target_boxes": boxes(),
        "offsets": normal(4),
        "target_offsets": normal(4).sigmoid(),
        "scale": 1 + normal().sigmoid(),
    }
    return raw, torch.randint(-2, CLASSES, (IMAGES, ANCHORS), generator=generator)


def losses_of(raw: dict[str, Tensor], classes: Tensor, **options: Any) -> dict[str, Tensor]:
    return yolo_loss(
        raw["boxes"],
        raw["objectness"],
        raw["logits"],
        raw["target_boxes"],
        classes,
        offsets=raw["offsets"],
        target_offsets=raw["target_offsets"],
        box_scale=raw["scale"],
        **options,
    )


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou", "offsets"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_the_papers(kind: str, smoothing: float) -> None:
    raw, classes = batch()
    wide = {name: each.double().tolist() for name, each in raw.items()}
    *sums, positives = restated(wide, classes.tolist(), kind=kind, smoothing=smoothing)
    losses = losses_of(raw, classes, kind=kind, label_smoothing=smoothing)
    assert list(losses) == ["box", "objectness", "class"]
    assert [loss.item() for loss in losses.values()] == pytest.approx(
        [each / positives for each in sums], rel=1e-5
    )
    weighted = losses_of(
        raw,
        classes,
        kind=kind,
        label_smoothing=smoothing,
        normalisation="images",
        box_weight=0.07,
        objectness_weight=2.0,
        class_weight=0.5,
    )
    assert [loss.item() for loss in weighted.values()] == pytest.approx(
        [w * each / IMAGES for w, each in zip((0.07, 2.0, 0.5), sums, strict=True)], rel=1e-5
    )


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "offsets"])
def test_gradients_are_the_slopes_of_the_restatement(kind: str) -> None:
    raw, classes = batch()
    leaves = ("boxes", "objectness", "logits", "offsets")
    for name in leaves:
        raw[name].requires_grad_()
    torch.stack(list(losses_of(raw, classes, kind=kind).values())).sum().backward()
    wide = {name: each.detach().double() for name, each in raw.items()}
    image, anchor = (classes >= 0).nonzero()[0].tolist()
    step = 1e-5
    read = ("objectness", "logits", "offsets" if kind == "offsets" else "boxes")
    for name in read:
        places = range(wide[name][image, anchor].numel())
        for place in places:
            ends = []
            for sign in (1, -1):
                moved = {key: each.clone() for key, each in wide.items()}
                moved[name][image, anchor].view(-1)[place] += sign * step
                lists = {key: each.tolist() for key, each in moved.items()}
                *sums, positives = restated(lists, classes.tolist(), kind=kind, smoothing=0.0)
                ends.append(sum(sums) / positives)
            gradient = raw[name].grad
            assert gradient is not None
            assert gradient[image, anchor].view(-1)[place].item() == pytest.approx(
                (ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-5
            )


def test_the_gradient_of_the_offsets_is_prediction_minus_truth() -> None:
    raw, _ = batch()
    offsets = raw["offsets"].requires_grad_()
    offset_terms(offsets, raw["target_offsets"]).sum().backward()
    said = torch.cat((offsets[..., :2].sigmoid(), offsets[..., 2:]), dim=-1)
    torch.testing.assert_close(offsets.grad, (said - raw["target_offsets"]).detach())


def test_ignored_anchors_have_no_gradient_and_background_only_objectness() -> None:
    raw, classes = batch()
    for name in ("boxes", "objectness", "logits"):
        raw[name].requires_grad_()
    torch.stack(list(losses_of(raw, classes).values())).sum().backward()
    assert raw["objectness"].grad is not None
    assert torch.equal(raw["objectness"].grad != 0, classes >= -1)
    for name in ("boxes", "logits"):
        gradient = raw[name].grad
        assert gradient is not None
        assert torch.equal(gradient.abs().sum(-1) > 0, classes >= 0)


def test_without_objects_only_objectness_counts() -> None:
    raw, classes = batch()
    losses = losses_of(raw, torch.full_like(classes, -1))
    assert losses["box"].item() == losses["class"].item() == 0
    assert losses["objectness"].item() > 0


def test_offsets_must_be_given() -> None:
    raw, classes = batch()
    with pytest.raises(ValueError, match="target_offsets"):
        yolo_loss(
            raw["boxes"],
            raw["objectness"],
            raw["logits"],
            raw["target_boxes"],
            classes,
            kind="offsets",
        )
