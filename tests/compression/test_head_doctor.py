from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from flyweight.compression.head_doctor import Diagnosis, examine
from flyweight.compression.head_doctor_report import (
    console_tables,
    guilty_lines,
    write_doctor_report,
)
from flyweight.compression.quantise_onnx import calibrate
from flyweight.core.detections import Detections
from flyweight.core.manifest import Thresholds
from flyweight.core.nms import select_detections
from flyweight.data.records import DetectionDataset, Record

SIDE = 24
THRESHOLDS = Thresholds(score=0.05, max_detections=50)


def found_by(model: onnx.ModelProto, images: np.ndarray) -> list[Detections]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = []
    for image in images:
        boxes, scores = session.run(["boxes", "scores"], {"images": image[None]})
        corners = np.sort(boxes[0].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        corners[:, 2:] += 2
        found.append(select_detections(corners, scores[0], **THRESHOLDS.selection()))
    return found


@pytest.fixture
def diagnosis(graph: onnx.ModelProto, batches: list[np.ndarray]) -> Diagnosis:
    """Of the small graph with an outlier in "expand"; its own float detections are the truth."""
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    weight = numpy_helper.to_array(tensors["expand_w"]).copy()
    weight[5] *= 3000
    tensors["expand_w"].CopyFrom(numpy_helper.from_array(weight, "expand_w"))
    for name in ("deltas_w", "logits_w"):
        values = numpy_helper.to_array(tensors[name]).copy()
        values[:, 5] = 0
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    images = np.concatenate(batches)
    records = tuple(
        Record(
            image_id=index,
            path=Path(f"{index}.png"),
            size_hw=(SIDE, SIDE),
            boxes_xyxy=each.boxes_xyxy[:6],
            labels=each.labels[:6],
            crowd=np.zeros(len(each.labels[:6]), bool),
            difficult=np.zeros(len(each.labels[:6]), bool),
        )
        for index, each in enumerate(found_by(graph, images))
    )
    return examine(
        graph,
        calibrate(graph, batches),
        [image[None] for image in images[:4]],
        detect=lambda model: found_by(model, images),
        dataset=DetectionDataset(records, ("a", "b", "c"), Path("nowhere"), "val", "coco"),
        worst=3,
    )


def test_the_guilty_tensor_is_named_and_ap_goes_there(diagnosis: Diagnosis) -> None:
    worst = {each.layer.node for each in diagnosis.layers[:3]}
    assert worst == {"expand", "deltas", "logits"}
    guilty = {each.layer.node: each for each in diagnosis.guilty}
    expand = guilty["expand"]
    assert expand.guilty is not None
    assert (expand.guilty.tensor, expand.guilty.role) == ("expand", "output")
    assert any(reason.startswith("channel 5 spans") for reason in expand.reasons)
    # The heads suffer from what they read, not from their own weights.
    assert guilty["logits"].guilty is not None
    assert guilty["logits"].guilty.role == "input"
    # And AP goes there.
    assert diagnosis.AP > 0.4
    assert diagnosis.loss.low <= diagnosis.loss.value <= diagnosis.loss.high
    assert diagnosis.loss.value > 0.05
    by_node = {each.layer.node: each for each in diagnosis.layers}
    measured = {node for node, each in by_node.items() if each.loss is not None}
    assert measured == {"expand", "deltas", "logits"}
    assert sum(each.layers for each in diagnosis.groups) == 5
    alone = {each.group.split("_")[0]: each.alone.value for each in diagnosis.groups}
    assert min(alone["expand"], alone["logits"]) > 0.05 + max(alone["stem"], alone["depthwise"])


def test_tables_page_and_json(diagnosis: Diagnosis, tmp_path: Path) -> None:
    content = json.loads(json.dumps(diagnosis.to_dict()))
    assert content["guilty"] == [each.layer.label for each in diagnosis.guilty]
    assert content["layers"][0]["alone"]["scores_sqnr_db"] < 30
    parts, worst = console_tables(diagnosis)
    assert parts.row_count == 1 + len(diagnosis.groups)
    assert worst.row_count == 5
    assert any("channel 5 spans" in line for line in guilty_lines(diagnosis))
    page = tmp_path / "doctor.html"
    write_doctor_report(diagnosis, page, title="Where int8 loses AP", subtitle="small")
    text = page.read_text(encoding="utf-8")
    assert "channel 5 spans" in text
    healthy = replace(diagnosis, layers=diagnosis.layers[3:])
    assert guilty_lines(healthy) == []
    write_doctor_report(healthy, page, title="Where int8 loses AP", subtitle="small")
    assert "No layer" in page.read_text(encoding="utf-8")
