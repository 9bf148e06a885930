"""torchvision's detection weights into Flyweight's detectors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from flyweight.models.conversion import convert_state_dict
from flyweight.models.detectors.detector import Detector


def convert_torchvision_ssdlite(
    state_dict: Mapping[str, Tensor],
    detector: Detector,
    *,
    source_name: str = "torchvision SSDlite",
) -> None:
    """Load the weights of torchvision's `ssdlite320_mobilenet_v3_large`, trained on C + 1 classes.

    Both codes define backbone, extra levels, class branches and box branches in this order.

    Args:
        state_dict: torchvision's, 91 classes with background in the published file.
        detector: `ssdlite320_mobilenet_v3_large` with C classes, `reduced_tail` where theirs is
            (as in the published file), mean and deviation 0.5.
        source_name: the file they come from, for the message.

    Raises:
        InputError: naming the first tensors that do not fit.
    """
    weights = convert_state_dict(state_dict, detector.model, source_name=source_name)
    detector.model.load_state_dict(weights)


def convert_torchvision_retinanet(
    state_dict: Mapping[str, Tensor],
    detector: Detector,
    *,
    source_name: str = "torchvision RetinaNet",
) -> None:
    """Load the weights of torchvision's `retinanet_resnet50_fpn`, trained on C category ids.

    Args:
        state_dict: torchvision's, 91 classes in the published file.
        detector: `retinanet_resnet50_fpn` with as many classes.
        source_name: the file they come from, for the message.

    Raises:
        InputError: naming the first tensors that do not fit.
    """
    weights = convert_state_dict(state_dict, detector.model, source_name=source_name)
    detector.model.load_state_dict(weights)


def convert_torchvision_ssd300(
    state_dict: Mapping[str, Tensor],
    detector: Detector,
    *,
    source_name: str = "torchvision SSD300",
) -> None:
    """Load the weights of torchvision's `ssd300_vgg16`, trained on C + 1 classes.

    Theirs names the scale of conv4_3's norm before VGG's layers, ours with the extra levels.

    Args:
        state_dict: torchvision's, 91 classes with background in the published file.
        detector: `ssd300_vgg16` with C classes.
        source_name: the file they come from, for the message.

    Raises:
        InputError: naming the first tensors that do not fit.
    """
    ordered: dict[str, Tensor] = {}
    scale = state_dict.get("backbone.scale_weight")
    for name, tensor in state_dict.items():
        if name == "backbone.scale_weight":
            continue
        if scale is not None and name.startswith("backbone.extra.1."):
            ordered["backbone.l2_norm.scale"], scale = scale, None
        ordered[name] = tensor
    weights = convert_state_dict(ordered, detector.model, source_name=source_name)
    detector.model.load_state_dict(weights)
