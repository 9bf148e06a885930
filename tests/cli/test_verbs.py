"""The verbs on tiny data: the shapes of their JSON, the files they leave, figures that agree."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import read_image, write_image
from flyweight.data.formats import open_dataset
from flyweight.runtime.load import load_predictor

# the fixtures `flyweight` and `training`
Run = Callable[..., Any]
Words = Callable[[Path, Path], list[str]]


def is_figure(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value <= 1


# --- models, data ---


def test_models(flyweight: Run) -> None:
    entries = flyweight("models", "--json").json["models"]
    assert {entry["name"] for entry in entries} >= {
        f"ssdlite320_mobilenet_{version}" for version in ("v1", "v2", "v3_large", "v3_small")
    }
    for entry in entries:
        assert entry["description"]
        assert entry["parameters"] > 1e5
        assert min(entry["input_size"]) >= 224
    shown = flyweight("models")
    assert shown.code == 0
    assert all(entry["name"] in shown.out for entry in entries)


def test_data_check_of_sound_data(flyweight: Run, tiny_data: Path) -> None:
    found = flyweight("data", "check", tiny_data, "--json").json
    assert found["ok"] is True
    assert set(found["tables"]) == {"train", "val", "test"}
    assert 0 < found["anchor_recall"]["total"]["recall"] <= 1
    assert flyweight("data", "check", tiny_data).code == 0


def test_data_check_with_errors_exits_with_1(flyweight: Run, own_data: Path) -> None:
    broken = sorted((own_data / "images" / "val").iterdir())[0]
    broken.write_bytes(b"")
    outcome = flyweight("data", "check", own_data, "--json")
    assert outcome.code == 1
    found = json.loads(outcome.out)
    assert found["ok"] is False
    assert any(broken.name in where for each in found["findings"] for where in each["where"])
    shown = flyweight("data", "check", own_data)
    assert shown.code == 1
    assert broken.name in shown.out


def test_data_check_says_what_boxes_made_for_the_data_would_reach(
    flyweight: Run, bccd_dir: Path
) -> None:
    found = flyweight("data", "check", bccd_dir, "--no-images", "--json").json
    by_class = {row["name"]: row["recall"] for row in found["anchor_recall"]["by_class"]}
    assert by_class["Platelets"] < 0.1
    fitted = {row["name"]: row["recall"] for row in found["fitted_recall"]["by_class"]}
    assert fitted["Platelets"] > by_class["Platelets"] + 0.3


def test_data_check_against_a_checkpoint(
    flyweight: Run, tiny_data: Path, tiny_checkpoint: Path
) -> None:
    found = flyweight("data", "check", tiny_data, "--model", tiny_checkpoint, "--json").json
    assert found["model"] == str(tiny_checkpoint)
    # the published boxes are coarse at 64 pixels, so that they differ from those at 320
    default = flyweight("data", "check", tiny_data, "--json").json
    assert found["anchor_recall"]["total"] != default["anchor_recall"]["total"]


def test_the_default_anchors_of_data_check_are_those_of_the_zoo(
    flyweight: Run, tiny_data: Path
) -> None:
    name = "ssdlite320_mobilenet_v2"
    for size in ("320", "200"):
        words = ("data", "check", tiny_data, "--size", size, "--json")
        without, with_model = flyweight(*words).json, flyweight(*words, "--model", name).json
        assert without["anchor_recall"] == with_model["anchor_recall"]


def test_data_stats(flyweight: Run, tiny_data: Path) -> None:
    found = flyweight("data", "stats", tiny_data, "--json").json
    pixels = np.concatenate(
        [read_image(path).reshape(-1, 3) for path in (tiny_data / "images" / "train").iterdir()]
    )
    assert found["mean"] == pytest.approx((pixels / 255).mean(axis=0), abs=1e-6)
    assert found["std"] == pytest.approx((pixels / 255).std(axis=0), abs=1e-6)
    assert found["splits"]["train"]["classes"]["disc"] == {"objects": 8, "images": 8}
    assert "disc" in flyweight("data", "stats", tiny_data).out


@pytest.mark.parametrize("to", ["voc", "yolo", "coco"])
def test_data_convert(flyweight: Run, tiny_data: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / "converted"
    found = flyweight("data", "convert", tiny_data, "--to", to, "--out", out, "--json").json
    assert found["splits"] == {"train": 8, "val": 3, "test": 3}
    before, after = open_dataset(tiny_data, "train"), open_dataset(out, "train")
    assert after.format == to
    assert set(after.class_names) == set(before.class_names)
    boxes = {record.path.stem: record.boxes_xyxy for record in after.records}
    for record in before.records:
        got = np.sort(boxes[record.path.stem], axis=0)
        np.testing.assert_allclose(got, np.sort(record.boxes_xyxy, axis=0), atol=0.01)


def test_data_sample(flyweight: Run, tmp_path: Path) -> None:
    words = ("--train", "3", "--val", "2", "--test", "0", "--seed", "5", "--json")
    for out in ("a", "b"):
        found = flyweight("data", "sample", "--out", tmp_path / out, *words).json
        assert found["splits"] == {"train": 3, "val": 2, "test": 0}
    scenes = open_dataset(tmp_path / "a", "train")
    assert scenes.class_names == ("card",)
    for record in scenes.records:
        again = tmp_path / "b" / record.path.relative_to(tmp_path / "a")
        assert again.read_bytes() == record.path.read_bytes()


# --- train, eval ---


def test_train(tiny_run: tuple[Path, Any]) -> None:
    out, found = tiny_run
    assert found["run"] == str(out)
    assert found["checkpoint"] == str(out / "best.safetensors")
    for metrics in (found["metrics"], found["test_metrics"]):
        assert set(metrics) == {"AP", "AP50", "AP75"}
        assert all(map(is_figure, metrics.values()))
    assert found["images_per_second"] > 0
    assert found["epochs"] == 2
    names = {path.name for path in out.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "best.safetensors", "last.safetensors"} <= names
    assert not [name for name in names if name.startswith(".")]


def test_train_says_what_a_person_needs(
    flyweight: Run, training: Words, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shown = flyweight(*training(tiny_data, out), "--epochs", "1")
    assert shown.code == 0, shown.err
    assert f"flyweight export {out / 'best.safetensors'}" in shown.out.replace("\n", "")
    assert "random weights" in shown.err
    again = flyweight(*training(tiny_data, out), "--epochs", "1", "--overwrite", "--json")
    assert again.json["epochs"] == 1


def test_train_sets_images_aside_where_there_is_no_val_split(
    flyweight: Run, training: Words, own_data: Path, tmp_path: Path
) -> None:
    for split in ("val", "test"):
        (own_data / "annotations" / f"instances_{split}.json").unlink()
        shutil.rmtree(own_data / "images" / split)
    words = training(own_data, tmp_path / "run")
    outcome = flyweight(*words, "--epochs", "1", "--json")
    assert outcome.json["test_metrics"] is None
    assert any("no split 'val'" in text for text in outcome.json["notes"])
    assert "no split 'val'" in outcome.err


def test_train_goes_on_from_a_checkpoint_with_other_classes(
    flyweight: Run, own_data: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    for split in ("train", "val", "test"):
        path = own_data / "annotations" / f"instances_{split}.json"
        path.write_text(path.read_text().replace('"disc"', '"wheel"'))
    out = tmp_path / "run"
    words = ("--data", own_data, "--out", out, "--epochs", "1", "--batch", "4", "--workers", "0")
    found = flyweight("train", tiny_checkpoint, *words, "--device", "cpu", "--json").json
    assert any("class head is replaced" in text for text in found["notes"])
    found = flyweight("eval", found["checkpoint"], "--data", own_data, "--json").json
    assert set(found["per_class"]) == {"wheel", "block"}


def test_eval_is_the_same_for_the_checkpoint_and_its_export(
    flyweight: Run, tiny_data: Path, tiny_run: tuple[Path, Any], tiny_onnx: Path
) -> None:
    out, trained = tiny_run
    results = [
        flyweight("eval", file, "--data", tiny_data, "--split", "test", "--json").json
        for file in (out / "best.safetensors", tiny_onnx)
    ]
    for found in results:
        assert found["images"] == 3
        assert is_figure(found["AP"])
        assert set(found["per_class"]) == {"disc", "block"}
        assert set(found["per_class"]["disc"]) == {"AP", "AP50"}
    assert results[0]["AP"] == pytest.approx(trained["test_metrics"]["AP"], abs=1e-6)
    assert results[1]["AP"] == pytest.approx(results[0]["AP"], abs=1e-3)
    assert "disc" in flyweight("eval", tiny_onnx, "--data", tiny_data).out


# --- predict ---


def test_predict_gives_what_eval_counts(flyweight: Run, tiny_data: Path, tiny_onnx: Path) -> None:
    """The JSON of `predict` holds the detections that evaluation is given, in order."""
    test_set = open_dataset(tiny_data, "test")
    words = (tiny_onnx, tiny_data / "images" / "test", "--score", "0", "--json")
    images = {Path(each["path"]).name: each for each in flyweight("predict", *words).json["images"]}
    predictor = load_predictor(tiny_onnx)
    assert len(images) == len(test_set)
    for record in test_set.records:
        found = images[record.path.name]
        assert (found["height"], found["width"]) == record.size_hw
        (expected,) = predictor.predict_batch([read_image(record.path)])
        assert len(found["detections"]) == len(expected) > 0
        for each, box, score, label in zip(
            found["detections"], expected.boxes_xyxy, expected.scores, expected.labels, strict=True
        ):
            assert set(each) == {"label", "class_id", "score", "box_xyxy"}
            assert each["label"] == test_set.class_names[each["class_id"]]
            assert each["class_id"] == label
            assert each["score"] == pytest.approx(score, abs=1e-5)
            assert each["box_xyxy"] == pytest.approx(box, abs=0.01)


def test_predict_draws_into_a_folder(
    flyweight: Run, tiny_onnx: Path, picture: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "inner").mkdir(parents=True)
    shutil.copy(picture, source / "a.jpg")
    shutil.copy(picture, source / "inner" / "a.jpg")
    write_image(source / "b.bmp", read_image(picture))
    words = ("predict", tiny_onnx, source, "--out", out, "--score", "0.02")
    images = flyweight(*words, "--json").json["images"]
    assert len(images) == 3
    drawn = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert drawn == ["a.jpg", "b.bmp.jpg", "detections.json", "inner/a.jpg"]
    assert json.loads((out / "detections.json").read_text())["images"] == images
    assert any(image["detections"] for image in images)
    assert (read_image(out / "b.bmp.jpg") != read_image(source / "b.bmp")).any()
    # a second time into the same folder is fine: nothing of the user's is in it
    assert flyweight(*words).code == 0


def test_predict_keeps_to_the_score(flyweight: Run, tiny_onnx: Path, picture: Path) -> None:
    everything = flyweight("predict", tiny_onnx, picture, "--score", "0", "--json").json
    scores = sorted(each["score"] for each in everything["images"][0]["detections"])
    # between two scores, away from the rounding of the output
    gap = max(range(len(scores) // 4, len(scores) - 1), key=lambda i: scores[i + 1] - scores[i])
    middle = (scores[gap] + scores[gap + 1]) / 2
    low, high = (
        flyweight("predict", tiny_onnx, picture, "--score", score, "--json").json["images"][0]
        for score in ("0", str(middle))
    )
    kept = [each for each in low["detections"] if each["score"] >= middle]
    assert kept == high["detections"]
    assert 0 < len(high["detections"]) < len(low["detections"])


def test_predict_of_a_checkpoint_is_that_of_its_export(
    flyweight: Run, tiny_checkpoint: Path, tiny_onnx: Path, picture: Path
) -> None:
    found = [
        flyweight("predict", file, picture, "--score", "0.05", "--json").json["images"][0]
        for file in (tiny_checkpoint, tiny_onnx)
    ]
    assert len(found[0]["detections"]) == len(found[1]["detections"]) > 0
    for ours, theirs in zip(found[0]["detections"], found[1]["detections"], strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=2e-3)
        assert ours["box_xyxy"] == pytest.approx(theirs["box_xyxy"], abs=0.2)


def test_predict_on_a_video(flyweight: Run, tiny_onnx: Path, picture: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path, image = tmp_path / "film.avi", read_image(picture)
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 5, (image.shape[1], image.shape[0]))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for _ in range(3):
        writer.write(image[..., ::-1])
    writer.release()
    out = tmp_path / "out"
    images = flyweight("predict", tiny_onnx, path, "--out", out, "--json").json["images"]
    assert len(images) == 3
    assert len(list(out.glob("film_*.jpg"))) == 3


# --- export, bench ---


def test_export(tiny_export: Any) -> None:
    (made,) = tiny_export["files"]
    assert made["format"] == "onnx"
    assert made["precision"] == "fp32"
    assert made["max_box_error"] <= 0.05
    assert made["max_score_error"] <= 1e-3
    assert made["AP"] is None
    assert Path(made["path"]).is_file()


def test_export_int8_with_data_measures_ap(
    flyweight: Run, tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = ("--precision", "int8", "--data", tiny_data, "--out", tmp_path, "--json")
    (made,) = flyweight("export", tiny_checkpoint, "--to", "onnx", *words).json["files"]
    assert made["precision"] == "int8"
    assert is_figure(made["AP"])
    assert is_figure(made["torch_ap"])
    # What the limit holds for; AP is of other images.
    assert made["loss"] <= 0.5


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--to", "tflite"), "tflite"),
        (("--to", ","), "no format"),
        (("--precision", "int4"), "int4"),
        (("--precision", "int8"), "--data"),
        (("--batch", "many"), "many"),
    ],
)
def test_export_refuses_what_it_cannot_do(
    flyweight: Run, tiny_checkpoint: Path, tmp_path: Path, words: tuple[str, ...], part: str
) -> None:
    out = tmp_path / "out"
    flyweight("export", tiny_checkpoint, *words, "--out", out).assert_refused(part)
    assert not out.exists()


def test_bench(flyweight: Run, tiny_checkpoint: Path, tiny_onnx: Path, picture: Path) -> None:
    words = ("bench", tiny_checkpoint, tiny_onnx, "--repeats", "2", "--threads", "1")
    found = flyweight(*words, "--image", picture, "--json").json
    assert found["machine"]["cores"] >= 1
    assert [row["runtime"] for row in found["rows"]] == ["torch", "onnxruntime"]
    for row in found["rows"]:
        assert set(row) == {
            "file", "runtime", "precision", "network_ms", "end_to_end_ms", "images_per_second"
        }  # fmt: skip
        assert row["network_ms"] > 0
        assert 0 < row["end_to_end_ms"] < math.inf
    assert "onnxruntime" in flyweight("bench", tiny_onnx, "--repeats", "1").out


# --- demo ---


def test_demo(flyweight: Run, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    found = flyweight("demo", "--out", out, "--quick", "--epochs", "1", "--json").json
    assert [row["stage"] for row in found["ledger"]] == [
        "torch fp32", "folded", "ONNX fp32", "ONNX int8"
    ]  # fmt: skip
    for row in found["ledger"]:
        assert is_figure(row["AP"])
        assert is_figure(row["AP50"])
        assert row["ms"] > 0
        assert row["mb"] > 0.1
    assert found["ledger"][3]["mb"] < 0.5 * found["ledger"][2]["mb"]
    page = Path(found["report"]).read_text()
    assert page.count("<img") >= 2
    assert "ONNX int8" in page
    assert read_image(found["prediction"]["picture"]).shape == (320, 320, 3)
    assert not [path for path in out.rglob(".*")]


def test_demo_leaves_a_folder_of_others_alone(flyweight: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    flyweight("demo", "--out", tmp_path, "--quick").assert_refused("something else")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
