"""torchvision's detection weights into Flyweight's detectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from flyweight.models.conversion import convert_state_dict
from flyweight.models.detectors.detector import Detector

# Zoo name to the name of torchvision's builder of the same network.
TORCHVISION_MODELS = {
    "ssdlite320_mobilenet_v3_large": "ssdlite320_mobilenet_v3_large",
    "ssd300_vgg16": "ssd300_vgg16",
    "retinanet_resnet50_fpn": "retinanet_resnet50_fpn",
    "faster_rcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn",
    "faster_rcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn",
}
# Published files that torchvision runs with an epsilon of 0 in its frozen BatchNorm.
NO_EPSILON = ("retinanet_resnet50_fpn_coco-eeacb38b", "fasterrcnn_resnet50_fpn_coco-258fb6c6")

_L2_SCALE = "backbone.scale_weight"


def load_torchvision_weights(
    state_dict: Mapping[str, Tensor], detector: Detector, *, source_name: str = "torchvision"
) -> None:
    """Load the weights of one of torchvision's detectors (`TORCHVISION_MODELS`).

    Both codes define backbone, neck and heads in the same order; only SSD300's L2 norm has another
    place. Classes: SSD and Faster R-CNN count background as a class of theirs, so that 91 are our
    90; RetinaNet does not. SSDlite's detector needs `reduced_tail` where theirs has it, as in the
    published file.

    The epsilon of BatchNorm is not in a file of weights: torchvision runs the `NO_EPSILON` files
    with 0 and all others with 1e-5 (SSDlite with 1e-3).

    Args:
        state_dict: torchvision's, in the order of definition.
        detector: of the same architecture and classes.
        source_name: the file they come from, for the message.

    Raises:
        InputError: naming the first tensors that do not fit.
    """
    ordered = in_our_order(state_dict)
    detector.model.load_state_dict(
        convert_state_dict(ordered, detector.model, source_name=source_name)
    )


def in_our_order(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's tensors in the order in which our modules are defined.

    SSD300's scale of conv4_3 comes before VGG's layers there, with the extra levels here.
    """
    if _L2_SCALE not in state_dict:
        return dict(state_dict)
    ordered: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if name == _L2_SCALE:
            continue
        if name.startswith("backbone.extra.1.") and "l2_norm.scale" not in ordered:
            ordered["l2_norm.scale"] = state_dict[_L2_SCALE]
        ordered[name] = tensor
    return ordered


def in_definition_order(state_dict: Mapping[str, Tensor], zoo_name: str) -> dict[str, Tensor]:
    """Tensors in the order of torchvision's own network; a `.safetensors` file sorts them by name.

    Tensors with other names than that network has stay as they are.
    """
    builder = TORCHVISION_MODELS.get(zoo_name)
    if builder is None:
        return dict(state_dict)
    from torchvision.models import get_model_builder

    with torch.device("meta"):
        names = list(get_model_builder(builder)(weights=None, weights_backbone=None).state_dict())
    if not state_dict.keys() <= set(names):
        return dict(state_dict)
    return {name: state_dict[name] for name in names if name in state_dict}
