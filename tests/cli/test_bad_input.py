"""Every kind of bad input: exit code 2, one `error:` line, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import write_image

# in a process of its own: several threads of a tiny network only wait for each other
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}

# the fixtures `flyweight` and `training`
Run = Callable[..., Any]
Words = Callable[[Path, Path], list[str]]


# --- folders and data sets ---


@pytest.mark.parametrize(
    "verb",
    [
        ("train", "ssdlite320_mobilenet_v2", "--out", "OUT", "--data"),
        ("data", "check"),
        ("data", "stats"),
        ("data", "convert", "--to", "voc", "--out", "OUT"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_missing_folder(flyweight: Run, tmp_path: Path, verb: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    words = [str(out) if word == "OUT" else word for word in verb]
    flyweight(*words, tmp_path / "nowhere").assert_refused("nowhere")
    assert not out.exists()


def test_a_missing_folder_to_evaluate_on(flyweight: Run, tmp_path: Path, tiny_onnx: Path) -> None:
    flyweight("eval", tiny_onnx, "--data", tmp_path / "nowhere").assert_refused("nowhere")


def test_a_missing_source(flyweight: Run, tmp_path: Path, tiny_onnx: Path) -> None:
    out = tmp_path / "out"
    flyweight("predict", tiny_onnx, tmp_path / "no.jpg", "--out", out).assert_refused("no.jpg")
    assert not out.exists()


def test_an_empty_data_set(flyweight: Run, tmp_path: Path, training: Words) -> None:
    data = tmp_path / "empty"
    data.mkdir()
    out = tmp_path / "run"
    flyweight(*training(data, out)).assert_refused("empty")
    assert not out.exists()
    flyweight("data", "check", data).assert_refused("empty")


def test_a_data_set_without_a_single_object(
    flyweight: Run, own_data: Path, tmp_path: Path, training: Words
) -> None:
    change_json(own_data, annotations=lambda entries: entries.clear())
    flyweight(*training(own_data, tmp_path / "run")).assert_refused("no labelled object")
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_not_there(flyweight: Run, tiny_data: Path, tiny_onnx: Path) -> None:
    outcome = flyweight("eval", tiny_onnx, "--data", tiny_data, "--split", "minival")
    outcome.assert_refused("minival", "train, val, test")


def test_an_output_folder_that_is_not_empty(
    flyweight: Run, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    outcome = flyweight("data", "convert", tiny_data, "--to", "voc", "--out", tmp_path)
    outcome.assert_refused(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


# --- pictures ---


def png_of_size(width: int, height: int) -> bytes:
    """A valid one-bit PNG, black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes((width // 8 + 1) * height), 1)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def spoiled(kind: str, picture: Path) -> bytes:
    whole = picture.read_bytes()
    return {
        "truncated": whole[: len(whole) // 2],
        "corrupt": bytes(np.random.default_rng(0).integers(0, 256, 2000, np.uint8)),
        "empty": b"",
        "huge": png_of_size(10_400, 10_000),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "truncated"),
        ("corrupt", "decoded"),
        ("empty", "0 bytes"),
        ("huge", "104 megapixels"),
    ],
)
def test_a_picture_that_cannot_be_used(
    flyweight: Run, tmp_path: Path, tiny_onnx: Path, picture: Path, kind: str, words: str
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture.read_bytes())
    (folder / "b.jpg").write_bytes(spoiled(kind, picture))
    outcome = flyweight("predict", tiny_onnx, folder, "--out", out)
    outcome.assert_refused("b.jpg", words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


@pytest.mark.parametrize("kind", ["truncated", "empty"])
def test_a_broken_image_in_the_data(
    flyweight: Run, own_data: Path, tiny_onnx: Path, picture: Path, kind: str
) -> None:
    broken = sorted((own_data / "images" / "test").iterdir())[1]
    broken.write_bytes(spoiled(kind, picture))
    flyweight("eval", tiny_onnx, "--data", own_data).assert_refused(broken.name)


def test_a_broken_image_while_training(
    flyweight: Run, own_data: Path, tmp_path: Path, picture: Path, training: Words
) -> None:
    broken = sorted((own_data / "images" / "train").iterdir())[1]
    broken.write_bytes(spoiled("truncated", picture))
    outcome = flyweight(*training(own_data, tmp_path / "run"), "--epochs", "1")
    outcome.assert_refused(broken.name)
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize("kind", ["grey", "16-bit", "RGBA", "CMYK", "rotated"])
def test_an_unusual_picture_works(
    flyweight: Run, tmp_path: Path, tiny_onnx: Path, kind: str
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / ("odd.jpg" if kind in ("CMYK", "rotated", "grey") else "odd.png")
    grey = (np.arange(60 * 100).reshape(60, 100) % 251).astype(np.uint8)
    if kind == "16-bit":
        pillow.fromarray(grey.astype(np.uint16) * 256).save(path)
    elif kind == "rotated":
        exif = pillow.Exif()
        exif[0x0112] = 6  # the camera was held upright
        pillow.fromarray(np.stack([grey] * 3, axis=2)).save(path, exif=exif)
    else:
        pillow.fromarray(grey).convert({"grey": "L"}.get(kind, kind)).save(path)
    (image,) = flyweight("predict", tiny_onnx, path, "--json").json["images"]
    expected = (60, 100) if kind == "rotated" else (100, 60)
    assert (image["width"], image["height"]) == expected


# --- annotations ---


def change_json(
    data: Path, split: str = "train", **changes: Callable[[list[dict[str, Any]]], Any]
) -> Path:
    """Let each function change its list in the split's annotation file."""
    path = data / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    for key, change in changes.items():
        change(content[key])
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": [float("nan"), 1, 20, 20]}, "nan"),
        ({"bbox": [10, 10, -5, 20]}, "box"),
        ({"image_id": 987_654}, "987654"),
        ({"category_id": 77}, "77"),
    ],
    ids=["NaN box", "inverted box", "unknown image", "unknown class"],
)
def test_an_annotation_that_cannot_be_used(
    flyweight: Run,
    own_data: Path,
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
    training: Words,
) -> None:
    change_json(own_data, annotations=lambda entries: entries[3].update(change))
    out = tmp_path / "run"
    outcome = flyweight(*training(own_data, out))
    outcome.assert_refused("instances_train.json", words)
    assert not out.exists()


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]", '{"images": [', "not JSON"])
def test_json_that_is_not_coco(flyweight: Run, tmp_path: Path, text: str, training: Words) -> None:
    folder = tmp_path / "data" / "annotations"
    folder.mkdir(parents=True)
    (folder / "instances_train.json").write_text(text)
    flyweight(*training(tmp_path / "data", tmp_path / "run")).assert_refused()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("target", ["../elsewhere/images", "/etc"])
def test_a_data_yaml_that_points_outside(
    flyweight: Run, tmp_path: Path, target: str, training: Words
) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere" / "images"
    data.mkdir()
    elsewhere.mkdir(parents=True)
    write_image(elsewhere / "a.jpg", np.zeros((20, 20, 3), np.uint8))
    (data / "data.yaml").write_text(f"train: {target}\nval: {target}\nnames: [card]\n")
    flyweight(*training(data, tmp_path / "run")).assert_refused("data.yaml", target)
    assert not (tmp_path / "run").exists()


# --- model files ---


def test_a_checkpoint_of_other_classes(
    flyweight: Run, own_data: Path, tiny_checkpoint: Path, tiny_onnx: Path
) -> None:
    for split in ("train", "val", "test"):
        change_json(own_data, split, categories=lambda entries: entries[0].update(name="wheel"))
    for file in (tiny_checkpoint, tiny_onnx):
        outcome = flyweight("eval", file, "--data", own_data)
        outcome.assert_refused("other classes", "'wheel'", "'disc'")


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "foreign", "noise"])
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_a_model_file_that_cannot_be_used(
    flyweight: Run,
    tmp_path: Path,
    tiny_checkpoint: Path,
    tiny_onnx: Path,
    picture: Path,
    suffix: str,
    kind: str,
) -> None:
    path, out = tmp_path / f"spoiled{suffix}", tmp_path / "out"
    whole = (tiny_checkpoint if suffix == ".safetensors" else tiny_onnx).read_bytes()
    if kind == "foreign":
        write_foreign(path)
    elif kind != "missing":
        noise = bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2]}.get(kind, noise))
    flyweight("predict", path, picture, "--out", out).assert_refused(path.name)
    assert not out.exists()


def write_foreign(path: Path) -> None:
    """A valid file of its kind, but none of ours."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file({"weight": np.zeros(3, np.float32)}, path)
        return
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".txt", ""])
def test_a_file_of_another_kind(flyweight: Run, tmp_path: Path, picture: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"something")
    flyweight("predict", path, picture).assert_refused(path.name)
    flyweight("export", path, "--out", tmp_path / "out").assert_refused(path.name)


def test_an_unknown_model_name(flyweight: Run, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = flyweight("train", "ssdlite_mobilenetv2", "--data", tiny_data, "--out", out)
    outcome.assert_refused("ssdlite_mobilenetv2", "ssdlite320_mobilenet_v2")
    assert not out.exists()


# --- options ---


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--epochs", "0"),
        ("--epochs", "many"),
        ("--batch", "-1"),
        ("--lr", "nan"),
        ("--size", "8"),
        ("--width", "0"),
        ("--anchors", "guess"),
        ("--augmentation", "blur"),
        ("--precision", "fp8"),
        ("--device", "abacus"),
        ("--optimizer", "adam2"),
        ("--pretrained", "no-such-file.pth"),
    ],
)
def test_a_setting_that_cannot_be(
    flyweight: Run, tiny_data: Path, tmp_path: Path, option: str, value: str, training: Words
) -> None:
    out = tmp_path / "run"
    flyweight(*training(tiny_data, out), option, value).assert_refused()
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("frobnicate",), "frobnicate"),
        (("train",), "--data"),
        (("models", "--colour"), "--colour"),
        (("predict", "a.onnx"), "SOURCE"),
        (("predict", "a.onnx", "b.jpg", "--score", "7"), "--score"),
        (("data", "convert", "somewhere", "--out", "x"), "--to"),
    ],
)
def test_a_wrong_command_line(flyweight: Run, words: tuple[str, ...], part: str) -> None:
    flyweight(*words).assert_refused(part, "--help")


def test_a_run_folder_that_is_taken(
    flyweight: Run, tiny_data: Path, tiny_run: tuple[Path, Any], training: Words
) -> None:
    before = (tiny_run[0] / "best.safetensors").read_bytes()
    outcome = flyweight(*training(tiny_data, tiny_run[0]))
    outcome.assert_refused("--resume")
    assert (tiny_run[0] / "best.safetensors").read_bytes() == before


def test_nothing_to_resume(
    flyweight: Run, tiny_data: Path, tmp_path: Path, training: Words
) -> None:
    outcome = flyweight(*training(tiny_data, tmp_path / "run"), "--resume")
    outcome.assert_refused("no run to resume")
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_settings(
    flyweight: Run, tiny_data: Path, tiny_run: tuple[Path, Any], training: Words
) -> None:
    outcome = flyweight(*training(tiny_data, tiny_run[0]), "--resume", "--lr", "0.5")
    outcome.assert_refused("lr")


def test_drawn_pictures_never_replace_the_originals(
    flyweight: Run, tmp_path: Path, tiny_onnx: Path, picture: Path
) -> None:
    own = tmp_path / "a.jpg"
    own.write_bytes(picture.read_bytes())
    flyweight("predict", tiny_onnx, tmp_path, "--out", tmp_path).assert_refused("originals")
    assert own.read_bytes() == picture.read_bytes()


# --- the machine ---


def test_a_full_disk_while_saving(
    flyweight: Run,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: Words,
) -> None:
    def replace(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("flyweight.core.files.os.replace", replace)
    out = tmp_path / "run"
    outcome = flyweight(*training(tiny_data, out), "--epochs", "1")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: the disk is full")
    assert not list(out.glob("*.safetensors"))
    assert not list(out.glob(".*"))


def test_a_file_limit_while_saving(tiny_data: Path, tmp_path: Path, training: Words) -> None:
    """The writers of torch and safetensors fail in their own ways; the system's limit shows it."""
    out = tmp_path / "run"
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from flyweight.cli.main import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, *training(tiny_data, out), "--epochs", "1"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=ONE_THREAD
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in ended.stderr
    assert not list(out.glob("*.safetensors"))
    assert not list(out.glob(".*"))


def test_ctrl_c_while_training_saves_and_says_how_to_resume(
    flyweight: Run, tiny_data: Path, tmp_path: Path, training: Words
) -> None:
    out = tmp_path / "a run"
    arguments = [*training(tiny_data, out), "--epochs", "2000", "--patience", "0"]
    command = [sys.executable, "-m", "flyweight", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=ONE_THREAD, **pipes) as p:
        deadline = time.monotonic() + 90
        while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
            assert p.poll() is None, p.communicate()
            time.sleep(0.05)
        p.send_signal(signal.SIGINT)
        shown, said = p.communicate(timeout=60)
    assert p.returncode == 130, said
    assert shown == ""
    last = said.splitlines()[-1]
    assert "resume with: flyweight train" in last
    assert last.endswith("--resume")
    assert f"'{out}'" in last
    assert "Traceback" not in said
    epochs = len((out / "metrics.jsonl").read_text().splitlines())
    # the run goes on where it was: the same command, but for fewer epochs it is refused
    outcome = flyweight(*training(tiny_data, out), "--epochs", "3", "--resume")
    outcome.assert_refused("epochs")
    assert len((out / "metrics.jsonl").read_text().splitlines()) == epochs
