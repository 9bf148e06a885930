from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset, Problem
from flyweight.data.voc import load_voc, save_voc, voc_splits

OBJECT = """<object><name>{name}</name>{extra}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""
SIZE = "<size><width>64</width><height>48</height><depth>3</depth></size>"


def item(name: str = "cat", box: tuple[object, ...] = (1, 1, 10, 20), extra: str = "") -> str:
    return OBJECT.format(name=name, box=box, extra=extra)


def annotation(*items: str, filename: str = "a.png", size: str = SIZE) -> str:
    return f"<annotation><filename>{filename}</filename>{size}{''.join(items)}</annotation>"


Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path, draw_picture: Callable[..., Path]) -> Lay:
    """Write text files and pictures by their paths; gives the data set's folder."""

    def write(files: dict[str, str], pictures: tuple[str, ...] = ("JPEGImages/a.png",)) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for name in pictures:
            draw_picture(tmp_path / name)
        return tmp_path

    return write


def test_bccd_as_plain_xml_reading_gives_it(bccd_dir: Path) -> None:
    assert voc_splits(bccd_dir) == ["train", "val", "test"]
    names = set()
    for split, count in (("train", 205), ("val", 87), ("test", 72)):
        dataset = load_voc(bccd_dir, split)
        stems = (bccd_dir / f"ImageSets/Main/{split}.txt").read_text().split()
        assert [record.image_id for record in dataset.records] == stems
        assert len(dataset) == count
        for record, stem in zip(dataset.records, stems, strict=True):
            tree = ElementTree.parse(bccd_dir / f"Annotations/{stem}.xml")
            corners = [
                [float(box.find(tag).text) for tag in ("xmin", "ymin", "xmax", "ymax")]
                for box in tree.iter("bndbox")
            ]
            corners = np.array(corners).reshape(-1, 4) - [1, 1, 0, 0]
            np.testing.assert_array_equal(record.boxes_xyxy, corners)
            labels = [element.text for element in tree.iterfind("object/name")]
            assert [dataset.class_names[label] for label in record.labels] == labels
            names.update(labels)
            assert record.path == bccd_dir / f"JPEGImages/{stem}.jpg"
            assert record.size_hw == (480, 640)
        assert dataset.class_names == ("Platelets", "RBC", "WBC")
    assert names == {"Platelets", "RBC", "WBC"}


def test_corners_are_one_based_and_inclusive(lay: Lay) -> None:
    root = lay({"Annotations/a.xml": annotation(item(box=(1, 1, 64, 48)), item(box=(3, 4, 3, 4)))})
    dataset = load_voc(root)
    assert dataset[0].boxes_xyxy.tolist() == [[0, 0, 64, 48], [2, 3, 3, 4]]
    assert dataset[0].boxes_xyxy.dtype == np.float32


def test_without_lists_everything_is_train(lay: Lay) -> None:
    files = {"Annotations/a.xml": annotation(item()), "Annotations/b.xml": annotation()}
    root = lay(files, ("JPEGImages/a.png", "JPEGImages/b.png"))
    assert voc_splits(root) == ["train"]
    assert [len(record) for record in load_voc(root, "train").records] == [1, 0]


def test_lists(lay: Lay) -> None:
    stems = ("a", "b", "c d", "e")
    files = {f"Annotations/{stem}.xml": annotation(item(name=stem)) for stem in stems}
    files["ImageSets/Main/trainval.txt"] = "a\nb\nc d\n\n"
    files["ImageSets/Main/val.txt"] = "b\n"
    files["ImageSets/Main/test.txt"] = "e  -1\n"
    files["ImageSets/Main/cat_train.txt"] = "e  1\n"
    root = lay(files, tuple(f"JPEGImages/{stem}.png" for stem in stems))
    ids = {
        split: [record.image_id for record in load_voc(root, split).records]
        for split in voc_splits(root)
    }
    assert ids == {"train": ["a", "c d"], "val": ["b"], "test": ["e"]}
    # Classes of all splits, also where the split has only one of them.
    assert load_voc(root, "test").class_names == ("a", "b", "c d", "e")
    assert load_voc(root, "test")[0].labels.tolist() == [3]


def test_splits_as_folders_with_xml_beside_the_images(lay: Lay) -> None:
    names = ("train/a", "valid/a")
    root = lay(
        {f"{name}.xml": annotation(item()) for name in names},
        tuple(f"{name}.png" for name in names),
    )
    assert voc_splits(root) == ["train", "val"]
    assert load_voc(root, "val")[0].path == root / "valid/a.png"
    assert len(load_voc(root)) == 2


@pytest.mark.parametrize(
    ("filename", "picture"),
    [
        ("a.png", "a.png"),
        ("a.jpg", "a.png"),  # converted since
        ("renamed.jpg", "a.webp"),
        ("other.png", "other.png"),
        ("C:\\pictures\\a.png", "a.png"),
        ("", "a.JPG"),
    ],
)
def test_finding_the_image(lay: Lay, filename: str, picture: str) -> None:
    name = f"JPEGImages/{picture}"
    root = lay({"Annotations/a.xml": annotation(item(), filename=filename)}, (name,))
    assert load_voc(root)[0].path == root / name


def test_flags(lay: Lay) -> None:
    extras = ("", "<difficult>1</difficult>", "<difficult>0</difficult>", "<iscrowd>1</iscrowd>")
    root = lay({"Annotations/a.xml": annotation(*(item(extra=extra) for extra in extras))})
    record = load_voc(root)[0]
    assert record.difficult.tolist() == [False, True, False, False]
    assert record.crowd.tolist() == [False, False, False, True]


def test_parts_of_an_object_are_not_objects(lay: Lay) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    root = lay({"Annotations/a.xml": annotation(item(extra=part))})
    dataset = load_voc(root)
    assert dataset.class_names == ("cat",)
    assert len(dataset[0]) == 1


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_is_missing_comes_from_the_image(lay: Lay, size: str) -> None:
    root = lay({"Annotations/a.xml": annotation(item(), size=size)})
    assert load_voc(root)[0].size_hw == (48, 64)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (item(box=("nan", 1, 2, 2)), "nan_box"),
        (item(box=(9, 1, 2, 5)), "inverted_box"),
        (item(box=("", 1, 2, 2)), "bad_annotation"),
        (item(box=("x", 1, 2, 2)), "bad_annotation"),
        ("<object><name>cat</name></object>", "bad_annotation"),
        (item(name=""), "unknown_class"),
    ],
)
def test_bad_objects(lay: Lay, bad: str, code: str) -> None:
    root = lay({"Annotations/a.xml": annotation(item(), bad, item())})
    with pytest.raises(InputError, match=r"a\.xml, object 2"):
        load_voc(root)
    seen: list[Problem] = []
    assert len(load_voc(root, on_problem=seen.append)[0]) == 2
    assert [problem.code for problem in seen] == [code]


@pytest.mark.parametrize(
    ("files", "pictures", "message", "code"),
    [
        ({"Annotations/a.xml": annotation(item())}, (), "image .* is missing", "missing_image"),
        ({"Annotations/a.xml": "<annotation>"}, ("a.png",), "a.xml, line 1", "bad_annotation"),
        ({"Annotations/a.xml": "<html></html>"}, ("a.png",), "not a VOC", "bad_annotation"),
        (
            {"Annotations/a.xml": annotation(item(), size="<size><width>w</width></size>")},
            ("a.jpg",),
            "empty",
            "unreadable_image",
        ),
        ({"ImageSets/Main/train.txt": "b\na\n"}, ("a.png",), "a.xml", "missing_annotation"),
    ],
)
def test_bad_files(
    lay: Lay, files: dict[str, str], pictures: tuple[str, ...], message: str, code: str
) -> None:
    good = {"Annotations/b.xml": annotation(item())}
    root = lay({**good, **files}, ("b.png", *pictures))
    if code == "unreadable_image":
        (root / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        load_voc(root)
    seen: list[Problem] = []
    dataset = load_voc(root, on_problem=seen.append)
    assert [record.image_id for record in dataset.records] == ["b"]
    assert [problem.code for problem in seen] == [code]


def test_a_list_that_is_not_text(lay: Lay) -> None:
    root = lay({"Annotations/a.xml": annotation(item()), "ImageSets/Main/train.txt": ""})
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InputError, match=r"list is not text .*train\.txt"):
        load_voc(root)


def test_no_objects_at_all(lay: Lay) -> None:
    with pytest.raises(InputError, match="no object in any annotation"):
        load_voc(lay({"Annotations/a.xml": annotation()}))


def test_an_edited_file_is_read_again(lay: Lay) -> None:
    root = lay({"Annotations/a.xml": annotation(item())})
    before = load_voc(root)
    before[0].difficult[:] = True  # what a caller changes must not come back either
    assert not load_voc(root)[0].difficult.any()
    lay({"Annotations/a.xml": annotation(item(), item(name="kitten"))})
    assert load_voc(root).class_names == ("cat", "kitten")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip(
    data: st.DataObject, datasets: Callable[[], st.SearchStrategy[dict[str, DetectionDataset]]]
) -> None:
    splits = data.draw(datasets())
    names = {
        dataset.class_names[label]
        for dataset in splits.values()
        for record in dataset.records
        for label in record.labels
    }
    with tempfile.TemporaryDirectory() as folder:
        root = save_voc(splits, Path(folder) / "out")
        if not names:
            with pytest.raises(InputError, match="no object"):
                load_voc(root)
            return
        for split, dataset in splits.items():
            again = load_voc(root, split)
            assert set(again.class_names) == names
            for before, after in zip(dataset.records, again.records, strict=True):
                assert after.size_hw == before.size_hw
                assert after.path.read_bytes() == before.path.read_bytes()
                np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, atol=1e-4)
                assert [again.class_names[label] for label in after.labels] == [
                    dataset.class_names[label] for label in before.labels
                ]
                np.testing.assert_array_equal(after.crowd, before.crowd)
                np.testing.assert_array_equal(after.difficult, before.difficult)
    # Both pictures are called b: the second takes its split's name.
    assert after.image_id == "val_b"


def test_the_writer_undoes_the_reader(bccd_dir: Path, tmp_path: Path) -> None:
    dataset = load_voc(bccd_dir, "test").subset(range(5))
    root = save_voc(dataset, tmp_path / "out")
    for record in dataset.records:
        corners = [
            [
                [box.find(tag).text for tag in ("xmin", "ymin", "xmax", "ymax")]
                for box in ElementTree.parse(folder / f"Annotations/{record.image_id}.xml").iter(
                    "bndbox"
                )
            ]
            for folder in (bccd_dir, root)
        ]
        assert corners[0] == corners[1]
