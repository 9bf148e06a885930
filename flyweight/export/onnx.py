"""A detector as an ONNX file: uint8 pictures in, boxes and scores out, the manifest inside."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import onnx
import onnxslim
import torch
from torch import Tensor, nn

from flyweight.compression.fold import fold
from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.manifest import METADATA_KEY, Manifest
from flyweight.models.detectors import Detector

# N images, H x W pixels of the input

OPSET = 18


class GlobalMean(nn.Module):
    """`nn.AdaptiveAvgPool2d(1)` as a mean.

    The exporter writes the former as a gather with the example's batch size in it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, C, 1, 1]`."""
        return x.mean(dim=(2, 3), keepdim=True)


def export_onnx(
    detector: Detector,
    path: str | os.PathLike[str],
    *,
    manifest: Manifest | None = None,
    dynamic_batch: bool = False,
) -> None:
    """Write `detector` as ONNX with dense outputs.

    The file takes `images` uint8 `[N, H, W, 3]` RGB and gives `boxes` float32 `[N, A, 4]` xyxy in
    input pixels and `scores` float32 `[N, A, C]`. BatchNorm is folded first.

    Args:
        detector: stays as it is.
        path: of the .onnx file; written whole or not at all.
        manifest: what rides in the file's metadata; the detector's own by default.
        dynamic_batch: N is free; else it is 1.
    """
    model = to_onnx(detector, dynamic_batch=dynamic_batch)
    save_onnx(model, path, manifest=manifest or export_manifest(detector, format="onnx"))


def to_onnx(detector: Detector, *, dynamic_batch: bool = False) -> onnx.ModelProto:
    """The graph of `detector` with dense outputs, simplified, without a manifest."""
    if dynamic_batch and detector.config.family == "faster_rcnn":
        raise InputError(
            "Faster R-CNN picks the proposals of each image by itself, so its graph has a fixed "
            "number of images",
            where="dynamic batch",
            fix="export it for one image",
        )
    module = exportable(detector)
    # With a batch of 1 the exporter would take the free dimension for a constant.
    batch = 2 if dynamic_batch else 1
    device = next(module.parameters()).device
    images = torch.zeros((batch, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)
    free = {0: torch.export.Dim("N")} if dynamic_batch else {}
    with quiet():
        program = torch.onnx.export(
            module,
            (images.to(device),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["boxes", "scores"],
            dynamic_shapes=(free,) if dynamic_batch else None,
            custom_translation_table=_translations(),
            verbose=False,
        )
        if program is None:
            raise InputError("torch could not export the detector to ONNX")
        slim: onnx.ModelProto = onnxslim.slim(program.model_proto)
    # Traces of the source files that torch leaves on every node: half of the text in a file.
    for node in slim.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    slim.ClearField("metadata_props")
    slim.producer_name = "flyweight"
    return slim


def _translations() -> dict[Any, Any]:
    """What torch's exporter does not translate rightly by itself.

    Its RoIPool takes one argument fewer than torchvision's operator gives (torch 2.11 to 2.15).
    """
    from onnxscript import opset18 as op

    def roi_pool(
        input: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int
    ) -> tuple[Any, Any]:
        pooled = op.MaxRoiPool(
            input, rois, pooled_shape=(pooled_height, pooled_width), spatial_scale=spatial_scale
        )
        return pooled, pooled

    import torchvision  # noqa: F401  registers the operator

    return {torch.ops.torchvision.roi_pool.default: roi_pool}


def exportable(detector: Detector) -> nn.Module:
    """A folded copy of `detector` on the CPU, of modules that export well."""
    module = fold(detector).cpu().float()
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(parent, name, GlobalMean())
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def export_manifest(
    detector: Detector, *, format: str, precision: str = "fp32", nms: bool = False
) -> Manifest:
    """The detector's manifest with how the file was exported in its lineage."""
    manifest = detector.manifest()
    how = {"format": format, "precision": precision, "nms": nms}
    return replace(manifest, lineage={**manifest.lineage, "export": how})


def save_onnx(model: onnx.ModelProto, path: str | os.PathLike[str], *, manifest: Manifest) -> None:
    """Write `model` with `manifest` in its metadata, whole or not at all."""
    others = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    named = onnx.ModelProto()
    named.CopyFrom(model)
    del named.metadata_props[:]
    named.metadata_props.extend(others)
    named.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.checker.check_model(named)
    with write_atomically(path) as temporary:
        temporary.write_bytes(named.SerializeToString())


def node_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each operator the graph has."""
    counts: dict[str, Any] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
