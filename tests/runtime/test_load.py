from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.runtime.load import load_predictor
from flyweight.runtime.session import available_cores, precision_of

Save = Callable[..., Path]


def test_torch_is_not_loaded(save_model: Save, tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "picture.png", picture)
    program = (
        "import sys\n"
        "from flyweight.runtime.load import load_predictor\n"
        "found = load_predictor(sys.argv[1]).predict(sys.argv[2])\n"
        "assert found.labels.tolist() == [0, 2], found\n"
        "heavy = {'torch', 'torchvision', 'openvino', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", program, str(save_model()), str(tmp_path / "picture.png")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""


def test_threads(save_model: Save) -> None:
    session = load_predictor(save_model(), threads=1).session
    assert session._session.get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]
    by_default = load_predictor(save_model()).session
    options = by_default._session.get_session_options()  # type: ignore[attr-defined]
    assert options.intra_op_num_threads == available_cores()
    with pytest.raises(InputError, match="0 threads"):
        load_predictor(save_model(), threads=0)


def test_cores_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert available_cores() == 3


def test_precision_is_in_the_lineage(save_model: Save) -> None:
    assert precision_of(load_predictor(save_model(), threads=1).manifest) == "fp32"
    lineage = {"export": {"precision": "int8"}}
    assert precision_of(load_predictor(save_model(lineage=lineage), threads=1).manifest) == "int8"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_file(save_model: Save, runtime: str, keep: float) -> None:
    path = save_model()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"truncated|empty|manifest|outputs"):
        load_predictor(path, runtime=runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_that_is_something_else(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "letter.onnx"
    path.write_text("Dear reader, this is no model.")
    with pytest.raises(InputError, match="no ONNX model") as caught:
        load_predictor(path, runtime=runtime)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_onnx_without_manifest(save_model: Save, runtime: str) -> None:
    path = save_model()
    model = onnx.load(path)
    model.ClearField("metadata_props")
    onnx.save(model, path)
    with pytest.raises(InputError, match="no Flyweight manifest"):
        load_predictor(path, runtime=runtime)


def test_others_models(shared_dir: Path) -> None:
    for name in ("picodet_s_320_coco.onnx", "yolox_nano_416_coco.onnx"):
        with pytest.raises(InputError, match="no Flyweight manifest"):
            load_predictor(shared_dir / "peers" / name)


def test_outputs_of_other_names(save_model: Save) -> None:
    path = save_model()
    model = onnx.load(path)
    model.graph.output[1].name = "shape"
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.output[1].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    with pytest.raises(InputError, match="outputs are boxes, shape"):
        load_predictor(path)


def test_an_xml_without_its_weights(save_model: Save) -> None:
    path = save_model(".xml")
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match="does not exist"):
        load_predictor(path)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        load_predictor(path)


def test_an_xml_of_something_else(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "page.xml"
    path.write_text("<html><body>no model</body></html>")
    path.with_suffix(".bin").write_bytes(b"0000")
    with pytest.raises(InputError, match="no OpenVINO model"):
        load_predictor(path)


def test_what_cannot_be_opened_at_all(save_model: Save, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_predictor(tmp_path / "nowhere.onnx")
    with pytest.raises(InputError, match=r"a \.pt file is not an exported model"):
        load_predictor(tmp_path / "model.pt")
    with pytest.raises(InputError, match="unknown runtime 'tensorrt'"):
        load_predictor(save_model(), runtime="tensorrt")
    with pytest.raises(InputError, match=r"does not open \.xml files"):
        load_predictor(save_model(".xml"), runtime="onnxruntime")
