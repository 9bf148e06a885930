from __future__ import annotations

import builtins
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset, Problem
from flyweight.data.yolo import load_yolo, save_yolo, yolo_splits

YAML = "train: images/train\nnames: [cat, dog]\n"
PICTURE = "images/train/a.png"
LABELS = "labels/train/a.txt"
WHOLE = "0 0.5 0.5 1 1\n"

Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path, draw_picture: Callable[..., Path]) -> Lay:
    """Write text files and 64 x 48 pictures by their paths; gives the data set's folder."""
    root = tmp_path / "set"

    def write(files: dict[str, str], pictures: tuple[str, ...] = (PICTURE,)) -> Path:
        for name, text in {"data.yaml": YAML, **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for name in pictures:
            draw_picture(root / name)
        return root

    return write


def test_boxes_are_centre_and_size_in_parts_of_one(lay: Lay) -> None:
    text = WHOLE + "\n1 0.25 0.5 0.125 0.25\n"
    dataset = load_yolo(lay({LABELS: text}), "train")
    assert dataset.class_names == ("cat", "dog")
    assert dataset[0].size_hw == (48, 64)
    assert dataset[0].boxes_xyxy.tolist() == [[0, 0, 64, 48], [12, 18, 20, 30]]
    assert dataset[0].labels.tolist() == [0, 1]
    assert dataset[0].image_id == "images/train/a"
    assert not (dataset[0].crowd | dataset[0].difficult).any()


def test_polygons_become_their_hull(lay: Lay) -> None:
    text = "1 0.5 0.25 0.75 0.5 0.25 0.75\n" + "0 0 0 1 0 1 0.5 0 0.5\n"
    record = load_yolo(lay({LABELS: text}))[0]
    assert record.boxes_xyxy.tolist() == [[16, 12, 48, 36], [0, 0, 64, 24]]


def test_key_points_after_the_box_are_passed_over(lay: Lay) -> None:
    text = "0 0.5 0.5 1 1 0.1 0.2 2 0.3 0.4 2\n"
    root = lay({LABELS: text, "data.yaml": YAML + "kpt_shape: [2, 3]\n"})
    assert load_yolo(root)[0].boxes_xyxy.tolist() == [[0, 0, 64, 48]]


def test_rounding_does_not_push_boxes_over_the_edge(lay: Lay) -> None:
    record = load_yolo(lay({LABELS: "0 0.166667 0.833334 0.333334 0.333333\n"}))[0]
    assert record.boxes_xyxy[0, 0] == 0
    assert record.boxes_xyxy[0, 3] == 48


def test_an_image_without_labels_has_no_objects(lay: Lay) -> None:
    root = lay({LABELS: WHOLE, "labels/train/c.txt": "\n"}, (PICTURE, "images/train/b.png"))
    assert [len(record) for record in load_yolo(root).records] == [1, 0]


@pytest.mark.parametrize(
    ("source", "picture", "labels"),
    [
        ("images/train", "images/train/deep/a.png", "labels/train/deep/a.txt"),
        ("train/images", "train/images/a.png", "train/labels/a.txt"),
        ("../train/images", "train/images/a.png", "train/labels/a.txt"),  # as Roboflow writes it
        ("./train", "train/a.png", "train/a.txt"),
        ("[other, images/train]", PICTURE, LABELS),
        ("train.txt", PICTURE, LABELS),
        ("lists/train.txt", PICTURE, LABELS),
    ],
)
def test_layouts(lay: Lay, source: str, picture: str, labels: str) -> None:
    root = lay(
        {
            "data.yaml": f"train: {source}\nnames: [cat]\n",
            labels: WHOLE,
            "train.txt": f"./{PICTURE}\n\n",
            "lists/train.txt": f"{PICTURE}\n",
        },
        (picture,),
    )
    (root / "other").mkdir()
    dataset = load_yolo(root)
    assert [record.path.resolve() for record in dataset.records] == [root / picture]
    assert len(dataset[0]) == 1


def test_path_is_relative_to_the_yaml(lay: Lay) -> None:
    root = lay({"data.yaml": "path: ./b\ntrain: images\nnames: {0: cat}\n"}, ("b/images/a.png",))
    (root / "b/labels").mkdir()
    (root / "b/labels/a.txt").write_text(WHOLE)
    assert len(load_yolo(root)[0]) == 1


@pytest.mark.parametrize(
    ("names", "expected", "label"),
    [
        ("names: [a, b, c, d]", ("a", "b", "c", "d"), 3),
        ("names: {0: a, 3: d}", ("a", "d"), 1),
        ("names:\n  3: d\n  1: b", ("b", "d"), 1),
        ("nc: 4", ("class_0", "class_1", "class_2", "class_3"), 3),
        ("names: [1, 2, 3, 4]", ("1", "2", "3", "4"), 3),
    ],
)
def test_class_names(lay: Lay, names: str, expected: tuple[str, ...], label: int) -> None:
    root = lay({"data.yaml": f"train: images\n{names}\n", LABELS: "3 0.5 0.5 1 1"})
    dataset = load_yolo(root)
    assert dataset.class_names == expected
    assert dataset[0].labels.tolist() == [label]


def test_splits(lay: Lay) -> None:
    text = "train: images/train\nvalid: images/valid\ntest: images/none\nnames: [cat]\n"
    root = lay(
        {"data.yaml": text, LABELS: WHOLE, "labels/valid/a.txt": WHOLE},
        (PICTURE, "images/valid/a.png"),
    )
    assert yolo_splits(root) == ["train", "val"]
    assert load_yolo(root, "val")[0].path == root / "images/valid/a.png"
    with pytest.raises(InputError, match="no split 'test'"):
        load_yolo(root, "test")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0 nan 0.5 0.2 0.2", "nan_box"),
        ("0 0.1 0.1 nan 0.5 0.5 0.5", "nan_box"),
        ("0 0.5 0.5 -0.2 0.2", "inverted_box"),
        ("2 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0.5 0.5 0.5 0.2 0.2", "unknown_class"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_class"),
        ("nan 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0 12 14 20 20", "bad_annotation"),
        ("0 0.5 0.5 0.2", "bad_annotation"),
        ("0 0.5 0.5 0.2 0.2 0.9", "bad_annotation"),
        ("cat 0.5 0.5 0.2 0.2", "bad_annotation"),
        ("0", "bad_annotation"),
    ],
)
def test_bad_lines(lay: Lay, line: str, code: str) -> None:
    root = lay({LABELS: f"{WHOLE}\n{line}\n{WHOLE}"})
    with pytest.raises(InputError, match=r"labels/train/a\.txt, line 3"):
        load_yolo(root)
    seen: list[Problem] = []
    assert load_yolo(root, on_problem=seen.append)[0].labels.tolist() == [0, 0]
    assert [problem.code for problem in seen] == [code]


def test_an_empty_box_is_passed_over(lay: Lay) -> None:
    assert len(load_yolo(lay({LABELS: "0 0.5 0.5 0 0.2\n" + WHOLE}))[0]) == 1


@pytest.mark.parametrize(
    ("name", "code"), [("images/train/b.png", "unreadable_image"), (None, "missing_image")]
)
def test_bad_images(lay: Lay, name: str | None, code: str) -> None:
    files = {LABELS: WHOLE, "list.txt": f"{PICTURE}\nimages/train/b.png\n"}
    root = lay({**files, "data.yaml": "train: list.txt\nnames: [cat]\n"})
    if name:
        (root / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.png"):
        load_yolo(root)
    seen: list[Problem] = []
    assert len(load_yolo(root, on_problem=seen.append)) == 1
    assert [problem.code for problem in seen] == [code]


@pytest.mark.parametrize(
    "text",
    [
        "path: ..\ntrain: other\nnames: [cat]",
        "path: /\ntrain: etc\nnames: [cat]",
        "train: ../other\nnames: [cat]",
        "train: ../../other\nnames: [cat]",
        "train: images/../../other\nnames: [cat]",
        "train: /etc\nnames: [cat]",
        "train: images/train\nval: ../other\nnames: [cat]",
        "train: images/train\ntest: ../other\nnames: [cat]",
        "train: [images/train, ../other]\nnames: [cat]",
    ],
)
def test_a_yaml_that_points_outside(lay: Lay, draw_picture: Callable[..., Path], text: str) -> None:
    root = lay({"data.yaml": text, LABELS: WHOLE})
    draw_picture(root.parent / "other/a.png")
    key = next(key for key in ("path", "val", "test", "train") if f"{key}:" in text)
    with pytest.raises(InputError, match=rf"points outside its folder .*data\.yaml, {key}\)"):
        load_yolo(root, "train")


def test_a_list_that_points_outside(lay: Lay, draw_picture: Callable[..., Path]) -> None:
    root = lay({"data.yaml": "train: list.txt\nnames: [cat]\n", "list.txt": "a\n../../x/a.png\n"})
    draw_picture(root.parent / "x/a.png")
    with pytest.raises(InputError, match=r"list points outside .*list\.txt, line 2"):
        load_yolo(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [images\nnames: x", r"broken YAML .*data\.yaml, line"),
        ("just text", "holds no fields"),
        ("", "holds no fields"),
        ("train: images/train", r"no class names .*names"),
        ("train: images/train\nnames: []", "no class names"),
        ("train: images/train\nnames: {a: b}", "no class names"),
        ("train: images/train\nnames: [a, a]", "two classes are called 'a'"),
        ("train: images/train\nnames: [yes, no]", "class 0 is called True .*in quotes"),
        ("names: [a]", "no split in data.yaml"),
        ("train: 5\nnames: [a]", "'train' is not a path"),
        ("path: [a]\ntrain: x\nnames: [a]", "'path' is not a path"),
        ("train: nowhere\nnames: [a]", "names 'nowhere', which does not exist"),
        ("train: data.yaml\nnames: [a]", "neither a folder nor a .txt list"),
        ("train: labels\nnames: [a]", "no images"),
    ],
)
def test_bad_yaml(lay: Lay, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_yolo(lay({"data.yaml": text, LABELS: WHOLE}))


def test_labels_that_are_nowhere(lay: Lay) -> None:
    with pytest.raises(InputError, match="not one of the 1 images of 'train' has a label file"):
        load_yolo(lay({}))


def test_several_yaml_files(lay: Lay) -> None:
    root = lay({"b.yaml": YAML, "unrelated.yaml": "a: 1", LABELS: WHOLE})
    assert len(load_yolo(root)) == 1
    (root / "data.yaml").rename(root / "a.yaml")
    with pytest.raises(InputError, match=r"several YAML files .* a\.yaml, b\.yaml"):
        load_yolo(root)
    (root / "a.yaml").unlink()
    assert len(load_yolo(root)) == 1
    (root / "b.yaml").unlink()
    with pytest.raises(InputError, match=r"no data\.yaml"):
        load_yolo(root)


def test_without_pyyaml(lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return imported(name, *rest)

    root = lay({LABELS: WHOLE})
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install pyyaml"):
        load_yolo(root)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip(
    data: st.DataObject, datasets: Callable[[], st.SearchStrategy[dict[str, DetectionDataset]]]
) -> None:
    splits = data.draw(datasets())
    with tempfile.TemporaryDirectory() as folder:
        root = save_yolo(splits, Path(folder) / "out", link=True)
        content = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8"))
        assert tuple(content["names"].values()) == splits["train"].class_names
        for split, dataset in splits.items():
            again = load_yolo(root, split)
            for before, after in zip(dataset.records, again.records, strict=True):
                kept = ~before.crowd
                assert after.size_hw == before.size_hw
                assert after.path.read_bytes() == before.path.read_bytes()
                np.testing.assert_allclose(
                    after.boxes_xyxy, before.boxes_xyxy[kept], atol=0.011, rtol=0
                )
                np.testing.assert_array_equal(after.labels, before.labels[kept])


def test_boxes_are_written_clipped(lay: Lay, tmp_path: Path) -> None:
    dataset = load_yolo(lay({LABELS: WHOLE}))
    dataset[0].boxes_xyxy[:] = [-10, 12, 200, 30]
    again = load_yolo(save_yolo(dataset, tmp_path / "out"))
    np.testing.assert_allclose(again[0].boxes_xyxy, [[0, 12, 64, 30]], atol=1e-4)
