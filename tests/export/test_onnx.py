from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from flyweight.core.manifest import METADATA_KEY, Manifest
from flyweight.export.onnx import export_onnx
from flyweight.models.detectors import Detector


@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_the_contract_of_the_file(detector: Detector, tmp_path: Path, dynamic_batch: bool) -> None:
    path = tmp_path / "small.onnx"
    export_onnx(detector, path, dynamic_batch=dynamic_batch)
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    manifest = Manifest.from_json(metadata[METADATA_KEY])
    assert manifest.class_names == ("a", "b")
    assert manifest.lineage["export"] == {"format": "onnx", "precision": "fp32", "nms": False}

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [64, 96, 3])
    assert [output.name for output in session.get_outputs()] == ["boxes", "scores"]
    batch = 3 if dynamic_batch else 1
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 64, 96, 3), dtype=np.uint8)
    boxes, scores = session.run(["boxes", "scores"], {"images": pixels})
    assert boxes.shape == (batch, 48, 4)
    assert scores.shape == (batch, 48, 2)
    with torch.inference_mode():
        expected_boxes, expected_scores = detector(torch.from_numpy(pixels))
    np.testing.assert_allclose(boxes, expected_boxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(scores, expected_scores.numpy(), atol=1e-5)
    # Traces of the exporter's Python would be most of a small file.
    assert not any(node.metadata_props for node in model.graph.node)
    assert b"site-packages" not in path.read_bytes()
