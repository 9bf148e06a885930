"""int8 for OpenVINO, by NNCF's post-training quantisation."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.compression.quantise_onnx import single_images
from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError

CONVOLUTIONS = ("Convolution", "GroupConvolution")
OTHER_NODES = ("Constant", "Result", "Parameter")


def quantise_openvino(
    model: Any, batches: Iterable[npt.NDArray[np.uint8]], *, keep_float: Collection[str] = ()
) -> Any:
    """The int8 form of an OpenVINO model.

    Weights are int8 per output channel, in 7 bits, so that the sums of a CPU without VNNI do not
    overflow; activations are int8 per tensor; what follows the last convolutions stays in float,
    but for linear layers.

    Args:
        model: an `openvino.Model` in fp32; it stays as it is.
        batches: uint8 `[N, H, W, 3]` inputs to calibrate on.
        keep_float: names of layers that stay in float, as in the ONNX file.
    """
    with quiet():
        try:
            import nncf
        except ImportError as error:
            raise InputError(
                "NNCF is not installed", fix="pip install 'flyweight[compress]'"
            ) from error
        images = list(single_images(batches))
        if not images:
            raise InputError("no pictures to calibrate on", fix="give a data set with images")
        names = sorted({*decoding_nodes(model), *layers_named(model, keep_float)})
        return nncf.quantize(
            model,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=names, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE
            ),
        )


def decoding_nodes(model: Any) -> list[str]:
    """Names of the nodes that no convolution follows: decoding, softmax, NMS; no linear layer."""
    leads_to_convolution: set[str] = set()
    after = []
    for node in reversed(model.get_ordered_ops()):
        name = node.get_friendly_name()
        if _is_linear(node):
            continue
        if node.get_type_name() in CONVOLUTIONS or name in leads_to_convolution:
            for source in node.input_values():
                leads_to_convolution.add(source.get_node().get_friendly_name())
        elif node.get_type_name() not in OTHER_NODES and not _is_bias(node):
            after.append(name)
    return after


def layers_named(model: Any, names: Collection[str]) -> list[str]:
    """What OpenVINO calls the layers of these ONNX names: there a bias takes the name."""
    found = []
    for node in model.get_ordered_ops():
        if _is_layer(node):
            followers = [each.get_node() for each in node.output(0).get_target_inputs()]
            called = {each.get_friendly_name() for each in (node, *followers)}
            if called & set(names):
                found.append(node.get_friendly_name())
    return found


def _is_bias(node: Any) -> bool:
    return node.get_type_name() == "Add" and any(
        _is_layer(source.get_node()) for source in node.input_values()
    )


def _is_layer(node: Any) -> bool:
    return node.get_type_name() in CONVOLUTIONS or _is_linear(node)


def _is_linear(node: Any) -> bool:
    """A product with constant weights: a linear layer. Decoding has none in our graphs."""
    if node.get_type_name() != "MatMul":
        return False
    return bool(node.input_value(1).get_node().get_type_name() == "Constant")
