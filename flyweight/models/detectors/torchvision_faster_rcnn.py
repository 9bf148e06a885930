"""torchvision's Faster R-CNN weights into Flyweight's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from flyweight.models.conversion import convert_state_dict
from flyweight.models.detectors.detector import Detector


def convert_torchvision_faster_rcnn(
    state_dict: Mapping[str, Tensor],
    detector: Detector,
    *,
    source_name: str = "torchvision Faster R-CNN",
) -> None:
    """Load the weights of torchvision's `fasterrcnn_resnet50_fpn` or
    `fasterrcnn_mobilenet_v3_large_320_fpn`, trained on C + 1 classes.

    Both codes define backbone, the pyramid's 1×1 and its 3×3 convolutions, the RPN, and the second
    stage's hidden, class and box layers in this order.

    The epsilon of BatchNorm is not in a file of weights. torchvision runs the published
    ResNet-50 with 0 and the published MobileNetV3 with 1e-5: build the detector with that
    `backbone_norm_eps` (1e-5 is what it has without).

    Args:
        state_dict: torchvision's, 91 classes with background in the published files.
        detector: `faster_rcnn_resnet50_fpn` or `faster_rcnn_mobilenet_v3_large_320_fpn` with C
            classes.
        source_name: the file they come from, for the message.

    Raises:
        InputError: naming the first tensors that do not fit.
    """
    weights = convert_state_dict(state_dict, detector.model, source_name=source_name)
    detector.model.load_state_dict(weights)
