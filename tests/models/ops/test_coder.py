"""The box coder against torchvision's, and there and back."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection import _utils
from torchvision.ops import box_convert

from flyweight.models.ops.coder import AnchorDecoder, BoxCoder

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count: int, *, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 200
    size = 5 + torch.rand(count, 2, generator=generator) * 100
    return torch.cat((corner, corner + size), dim=1)


def test_encode_is_torchvisions() -> None:
    boxes, anchors = random_boxes(100, seed=0), random_boxes(100, seed=1)
    expected = _utils.BoxCoder(WEIGHTS).encode_single(boxes, anchors)
    torch.testing.assert_close(BoxCoder(WEIGHTS).encode(boxes, anchors), expected)


def test_decode_is_torchvisions_also_for_wild_deltas() -> None:
    anchors = random_boxes(300, seed=1)
    deltas = torch.randn(300, 4, generator=torch.Generator().manual_seed(2)) * 15
    expected = _utils.BoxCoder(WEIGHTS).decode_single(deltas, anchors)
    decoded = BoxCoder(WEIGHTS).decode(deltas, box_convert(anchors, "xyxy", "cxcywh"))
    torch.testing.assert_close(decoded, expected, rtol=1e-5, atol=1e-2)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([WEIGHTS, (1.0, 1.0, 1.0, 1.0)]))
def test_round_trip(seed: int, weights: tuple[float, float, float, float]) -> None:
    boxes, anchors = random_boxes(8, seed=seed), random_boxes(8, seed=seed + 1)
    coder = BoxCoder(weights)
    back = coder.decode(coder.encode(boxes, anchors), box_convert(anchors, "xyxy", "cxcywh"))
    torch.testing.assert_close(back, boxes, rtol=0, atol=2e-3)


def test_decoder_of_fixed_anchors_is_decode_cut_at_the_border() -> None:
    anchors = box_convert(random_boxes(50, seed=3), "xyxy", "cxcywh")
    deltas = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(4)) * 5
    decoder = AnchorDecoder(BoxCoder(WEIGHTS), anchors, size_hw=(100, 200))
    expected = BoxCoder(WEIGHTS).decode(deltas, anchors)
    assert expected.min() < 0
    expected[..., 0::2] = expected[..., 0::2].clamp(0, 200)
    expected[..., 1::2] = expected[..., 1::2].clamp(0, 100)
    assert torch.equal(decoder(deltas), expected)
    assert decoder.state_dict() == {}
