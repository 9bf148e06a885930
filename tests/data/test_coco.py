from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyweight.core.errors import InputError
from flyweight.data import json_stream
from flyweight.data.coco import coco_splits, load_coco, save_coco
from flyweight.data.records import DetectionDataset, Problem


def annotation(**changed: Any) -> dict[str, Any]:
    sound = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0}
    return {**sound, **changed}


def content(annotations: list[Any] | None = None, **changed: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.png", "height": 48, "width": 64}],
        "annotations": [annotation()] if annotations is None else annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        **changed,
    }


Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path, draw_picture: Callable[..., Path]) -> Lay:
    """Write JSON files and pictures by their paths; gives the data set's folder."""

    def write(files: dict[str, Any], pictures: tuple[str, ...] = ("train/a.png",)) -> Path:
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        for name in pictures:
            draw_picture(tmp_path / name)
        return tmp_path

    return write


@pytest.mark.parametrize("split", ["train", "val"])
def test_tiny_coco_as_pycocotools_reads_it(tiny_coco_dir: Path, split: str) -> None:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(tiny_coco_dir / "annotations" / f"instances_{split}2017.json"))
    dataset = load_coco(tiny_coco_dir, split)
    assert [record.image_id for record in dataset.records] == list(oracle.imgs)
    categories = oracle.loadCats(sorted(oracle.getCatIds()))
    assert list(dataset.class_names) == [category["name"] for category in categories]
    assert max(oracle.getCatIds()) > len(categories)  # gaps
    for record in dataset.records:
        info = oracle.loadImgs(record.image_id)[0]
        assert record.path == tiny_coco_dir / f"{split}2017" / info["file_name"]
        assert record.size_hw == (info["height"], info["width"])
        truth = oracle.loadAnns(oracle.getAnnIds(record.image_id))
        boxes_xywh = np.array([item["bbox"] for item in truth]).reshape(-1, 4)
        np.testing.assert_allclose(record.boxes_xyxy[:, :2], boxes_xywh[:, :2], atol=1e-4)
        sides = record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]
        np.testing.assert_allclose(sides, boxes_xywh[:, 2:], atol=1e-4)
        identifiers = [categories[label]["id"] for label in record.labels]
        assert identifiers == [item["category_id"] for item in truth]
        assert record.crowd.tolist() == [bool(item["iscrowd"]) for item in truth]
        np.testing.assert_allclose(record.areas, [item["area"] for item in truth], rtol=1e-6)
        assert record.boxes_xyxy.dtype == np.float32
        assert record.labels.dtype == np.int64
    assert sum(map(len, dataset.records)) == len(oracle.anns)
    assert sum(len(record) == 0 for record in dataset.records) > 0
    assert sum(record.crowd.sum() for record in dataset.records) == 5


def test_both_splits_at_once(tiny_coco_dir: Path) -> None:
    assert coco_splits(tiny_coco_dir) == ["train", "val"]
    both = load_coco(tiny_coco_dir)
    assert (len(both), both.split) == (100, "all")


@pytest.mark.parametrize(
    ("json_name", "picture"),
    [
        ("annotations/instances_train2017.json", "train2017/a.png"),
        ("annotations/instances_train.json", "images/train/a.png"),
        ("annotations/train.json", "images/a.png"),
        ("annotations/train.json", "a.png"),
        ("annotations/instances_default.json", "images/a.png"),
        ("train/_annotations.coco.json", "train/a.png"),
        ("train.json", "train/a.png"),
        ("labels.json", "data/a.png"),
        ("_annotations.coco.json", "a.png"),
    ],
)
def test_layouts(lay: Lay, json_name: str, picture: str) -> None:
    root = lay({json_name: content()}, (picture,))
    dataset = load_coco(root, "train")
    assert [record.path for record in dataset.records] == [root / picture]
    assert dataset[0].boxes_xyxy.tolist() == [[1, 2, 11, 22]]


@pytest.mark.parametrize("name", ["train/a.png", "train\\a.png", "./train/a.png"])
def test_file_names_with_folders(lay: Lay, name: str) -> None:
    images = [{"id": 7, "file_name": name, "height": 48, "width": 64}]
    root = lay({"annotations/train.json": content(images=images)})
    assert load_coco(root)[0].path.samefile(root / "train/a.png")


def test_file_names_that_leave_the_folder_are_not_followed(
    lay: Lay, draw_picture: Callable[..., Path]
) -> None:
    root = lay({"x": ""})
    outside = draw_picture(root.parent / "outside.png")
    for name in ("../outside.png", str(outside)):
        images = [{"id": 7, "file_name": name, "height": 48, "width": 64}]
        lay({"annotations/train.json": content(images=images)})
        with pytest.raises(InputError, match="missing"):
            load_coco(root)


def test_classes_are_those_of_all_splits_by_id(lay: Lay) -> None:
    root = lay(
        {
            "annotations/train.json": content(
                [annotation(category_id=5)],
                categories=[{"id": 5, "name": "e"}, {"id": 0, "name": "super"}],
            ),
            "annotations/val.json": content(
                categories=[{"id": 3, "name": "c"}, {"id": 8, "name": "super"}]
            ),
        },
        ("train/a.png", "val/a.png"),
    )
    train, val = load_coco(root, "train"), load_coco(root, "val")
    assert train.class_names == val.class_names == ("super", "c", "e")
    assert (train[0].labels.tolist(), val[0].labels.tolist()) == ([2], [1])
    assert [record.image_id for record in load_coco(root).records] == ["train/7", "val/7"]


def test_splits_that_disagree_about_a_category(lay: Lay) -> None:
    other = content(categories=[{"id": 3, "name": "bird"}])
    root = lay({"annotations/train.json": content(), "annotations/val.json": other})
    with pytest.raises(InputError, match="category 3 is 'bird' here and 'cat' in another split"):
        load_coco(root, "train")


@pytest.mark.parametrize("count", [1, 5000])
@pytest.mark.parametrize("info", [{}, {"categories": [{"id": 1, "name": "not a class"}]}])
def test_categories_are_found_in_any_file(lay: Lay, count: int, info: dict[str, Any]) -> None:
    names = [f"класс {number} " + "x" * 40 for number in range(count)]
    categories = [{"id": 3 + number, "name": name} for number, name in enumerate(names)]
    text = json.dumps({"info": info, **content(categories=categories)}, ensure_ascii=False)
    root = lay({"annotations/train.json": text})
    assert load_coco(root).class_names == tuple(names)


def test_one_category_id_with_two_names(lay: Lay) -> None:
    categories = [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]
    root = lay({"annotations/train.json": content(categories=categories)})
    with pytest.raises(InputError, match=r"category 3 is both 'cat' and 'dog' .*categories\[1\]"):
        load_coco(root)


@pytest.mark.parametrize("last", ["images", "annotations", "categories"])
def test_lists_in_any_order_and_in_many_parts(
    lay: Lay, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    monkeypatch.setattr(json_stream, "PART_BYTES", 150)
    entries = [
        annotation(id=n, bbox=[n, 2, 10, 20], segmentation={"size": [48, 64], "counts": "}, {"})
        for n in range(20)
    ]
    whole = content(entries)
    ordered = {name: whole[name] for name in sorted(whole, key=lambda name: name == last)}
    root = lay({"annotations/train.json": ordered})
    assert load_coco(root)[0].boxes_xyxy[:, 0].tolist() == list(range(20))


def test_a_problem_in_a_later_part_has_its_own_number(
    lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "PART_BYTES", 150)
    entries = [annotation(id=n) for n in range(20)] + [annotation(id=99, category_id=4)]
    root = lay({"annotations/train.json": content(entries)})
    with pytest.raises(InputError, match=r"category 4 .*annotations\[20\] \(id 99\)"):
        load_coco(root)


def test_area_of_the_object_decides_and_else_that_of_the_box(lay: Lay) -> None:
    entries = [annotation(area=42.5), annotation(id=2), annotation(id=3, area=None)]
    areas = load_coco(lay({"annotations/train.json": content(entries)}))[0].areas
    assert areas is not None
    assert areas.tolist() == [42.5, 200, 200]


BAD = {
    "nan_box": annotation(bbox=[float("nan"), 2, 10, 20]),
    "inverted_box": annotation(bbox=[1, 2, -10, 20]),
    "unknown_image": annotation(image_id=8),
    "unknown_class": annotation(category_id=4),
    "bad_annotation": annotation(bbox=[1, 2, 3]),
}
MORE_BAD = [
    ("bad_annotation", annotation(bbox=["x", 2, 3, 4])),
    ("bad_annotation", annotation(image_id=[7])),
    ("bad_annotation", {"image_id": 7, "category_id": 3}),
    ("bad_annotation", "not an object"),
    ("nan_box", annotation(bbox=[None, 2, 3, 4])),
]


@pytest.mark.parametrize(("code", "entry"), [*BAD.items(), *MORE_BAD])
def test_bad_annotations(lay: Lay, code: str, entry: Any) -> None:
    root = lay({"annotations/train.json": content([annotation(), entry, annotation(id=2)])})
    with pytest.raises(InputError, match=r"train\.json, annotations\[1\]"):
        load_coco(root)
    seen: list[Problem] = []
    dataset = load_coco(root, on_problem=seen.append)
    assert [problem.code for problem in seen if problem.severity == "error"] == [code]
    assert len(dataset[0]) == 2
    assert all(problem.message and problem.fix for problem in seen)


def test_all_bad_annotations_are_reported_in_their_order(lay: Lay) -> None:
    entries = [{**entry, "id": number} for number, entry in enumerate(BAD.values())]
    root = lay({"annotations/train.json": content([*entries, annotation(id=99)])})
    seen: list[Problem] = []
    assert len(load_coco(root, on_problem=seen.append)[0]) == 1
    assert [problem.code for problem in seen] == list(BAD)


def test_a_box_without_area_is_passed_over(lay: Lay) -> None:
    entries = [annotation(bbox=[1, 2, 0, 5]), annotation()]
    root = lay({"annotations/train.json": content(entries)})
    seen: list[Problem] = []
    assert len(load_coco(root)[0]) == len(load_coco(root, on_problem=seen.append)[0]) == 1
    assert Counter(problem.code for problem in seen) == {
        "empty_box": 1,
        "duplicate_annotation_id": 1,
    }


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([{"id": 7, "file_name": "b.png", "height": 48, "width": 64}], "missing_image"),
        ([{"id": 7, "file_name": "a.png", "height": 0, "width": 64}], "bad_annotation"),
        ([{"id": 7, "file_name": "a.png", "width": 64}], "bad_annotation"),
        ([{"id": 7.5, "file_name": "a.png", "height": 48, "width": 64}], "bad_annotation"),
        (["a.png"], "bad_annotation"),
        (content()["images"] * 2, "duplicate_image_id"),
    ],
)
def test_bad_images(lay: Lay, images: list[Any], code: str) -> None:
    good = {"id": 1, "file_name": "a.png", "height": 48, "width": 64}
    root = lay({"annotations/train.json": content([], images=[good, *images])})
    with pytest.raises(InputError, match=r"train\.json, images\["):
        load_coco(root)
    seen: list[Problem] = []
    assert load_coco(root, on_problem=seen.append)[0].image_id == 1
    assert [problem.code for problem in seen] == [code]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "annot', r"broken JSON .*train\.json, line 1, column"),
        ("", r"broken JSON .*train\.json, line 1, column 1"),
        ("[1, 2]", "JSON that is not COCO: no list 'images'"),
        (json.dumps(content(images={})), "not COCO: no list 'images'"),
        ('{"images": [], "annotations": []}', "not COCO: no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        (json.dumps(content([], images=[])), "no images"),
        (json.dumps(content(categories=[{"name": "x"}])), r"without a number.*categories\[0\]"),
        (json.dumps(content(categories=[{"id": "1", "name": "x"}])), "without a number"),
        ('{"a": ' * 100_000, "broken JSON"),
    ],
)
def test_files_that_are_not_coco(lay: Lay, text: str, message: str) -> None:
    root = lay({"annotations/train.json": text})
    with pytest.raises(InputError, match=message):
        load_coco(root)


def test_json_that_is_not_text(lay: Lay) -> None:
    root = lay({"annotations/train.json": ""})
    (root / "annotations/train.json").write_bytes(b"\xff\xfe\x00\x80\x81")
    with pytest.raises(InputError, match="broken JSON"):
        load_coco(root)


def test_instances_go_before_other_files_of_the_split(lay: Lay) -> None:
    other = content(images=[{"id": 1, "file_name": "b.png", "height": 48, "width": 64}])
    files = {"a_train.json": other, "captions_train.json": other, "instances_train.json": content()}
    root = lay({f"annotations/{name}": value for name, value in files.items()})
    assert load_coco(root)[0].image_id == 7


def test_two_files_of_one_split(lay: Lay) -> None:
    names = ("annotations/instances_val2014.json", "annotations/instances_val2017.json")
    root = lay(dict.fromkeys(names, content()))
    with pytest.raises(InputError, match="several annotation files for the split 'val'"):
        load_coco(root)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip(
    data: st.DataObject, datasets: Callable[[], st.SearchStrategy[dict[str, DetectionDataset]]]
) -> None:
    splits = data.draw(datasets())
    with tempfile.TemporaryDirectory() as folder:
        root = save_coco(splits, Path(folder) / "out", link=data.draw(st.booleans()))
        for split, dataset in splits.items():
            again = load_coco(root, split)
            assert again.class_names == dataset.class_names
            for before, after in zip(dataset.records, again.records, strict=True):
                assert after.image_id == before.image_id
                assert after.size_hw == before.size_hw
                assert after.path.read_bytes() == before.path.read_bytes()
                np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, rtol=2e-7)
                for name in ("labels", "crowd", "difficult", "areas"):
                    np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_what_is_written_opens_in_pycocotools(tiny_coco_dir: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    dataset = load_coco(tiny_coco_dir, "val")
    root = save_coco(dataset, tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        source = COCO(str(tiny_coco_dir / "annotations/instances_val2017.json"))
        written = COCO(str(root / "annotations/instances_val.json"))
    assert len(written.anns) == len(source.anns)
    assert sorted(item["name"] for item in written.cats.values()) == sorted(
        item["name"] for item in source.cats.values()
    )
    for before, after in zip(source.imgs, written.imgs, strict=True):
        boxes = [
            [item["bbox"] for item in oracle.loadAnns(oracle.getAnnIds(image))]
            for oracle, image in ((source, before), (written, after))
        ]
        np.testing.assert_allclose(
            np.reshape(boxes[0], (-1, 4)), np.reshape(boxes[1], (-1, 4)), atol=1e-4
        )
