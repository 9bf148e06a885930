"""Other classes for a trained detector."""

from __future__ import annotations

import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.models.detectors.classes import replace_classes
from flyweight.models.detectors.zoo import build


def test_shared_classes_and_background_keep_their_logits() -> None:
    torch.manual_seed(0)
    old = build("ssdlite320_mobilenet_v2", classes=("cat", "dog", "cow"), size=64, width=0.25)
    for parameter in old.parameters():
        parameter.data.add_(0.01 * torch.rand_like(parameter))
    old.eval()
    new = replace_classes(old, ("sheep", "cow", "cat", "horse"))
    assert new.class_names == ("sheep", "cow", "cat", "horse")
    assert new.config.num_classes == 4
    assert not new.training
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        before, after = (each.model(each.normalise(images)) for each in (old, new))
    torch.testing.assert_close(after.deltas, before.deltas)
    assert after.logits.shape[-1] == 5
    torch.testing.assert_close(after.logits[..., [0, 2, 3]], before.logits[..., [0, 3, 1]])
    # What is new was not copied from anywhere.
    assert not torch.isclose(after.logits[..., 1], before.logits[..., 1]).all()


def test_the_old_detector_is_left_alone() -> None:
    old = build("ssdlite320_mobilenet_v2", classes=("cat",), size=64, width=0.25)
    kept = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    new = replace_classes(old, ("dog",))
    for parameter in new.parameters():
        parameter.data.zero_()
    assert old.class_names == ("cat",)
    assert all(torch.equal(kept[name], tensor) for name, tensor in old.state_dict().items())
    assert new.thresholds == old.thresholds
    assert new.lineage == old.lineage


def test_bad_names() -> None:
    old = build("ssdlite320_mobilenet_v2", classes=("cat",), size=64, width=0.25)
    with pytest.raises(InputError, match="named twice"):
        replace_classes(old, ("dog", "dog"))
