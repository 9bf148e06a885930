"""Annotations from strangers: XML, JSON, lists, YAML, and the paths in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import write_image
from flyweight.data.formats import open_dataset
from flyweight.labeling.review_store import open_store
from tests.security.conftest import Attack

Lay = Callable[..., Path]

BOX = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
OBJECT = f"<object><name>{{}}</name>{BOX}</object>"
LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "lol">' for n in range(12)
)
XML = {
    "billion laughs": f"<!DOCTYPE a [{LAUGHS}]><annotation>{OBJECT.format('&l11;')}</annotation>",
    "one long entity": '<!DOCTYPE a [<!ENTITY x "' + "x" * 100_000 + '">]><annotation>'
    + OBJECT.format("&x;" * 20_000) + "</annotation>",
    "a file's content": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>'
    + OBJECT.format("&x;") + "</annotation>",
    "another document": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation>'
    + OBJECT.format("&x;") + "</annotation>",
    "depth": "<annotation>" + "<a>" * 200_000,
    "an encoding that is none": '<?xml version="1.0" encoding="none-1"?><annotation/>',
    "an encoding of many bytes": '<?xml version="1.0" encoding="shift_jis"?><annotation/>',
    "no end": "<annotation><object><name>" + "x" * 1_000_000,
    "a name that writes": "<annotation>" + OBJECT.format("&#27;]0;x") + "</annotation>",
    "a name of lines": "<annotation>" + OBJECT.format("a&#10;b") + "</annotation>",
}  # fmt: skip


def voc(root: Path, text: str, picture: Path) -> Path:
    for name in ("Annotations", "JPEGImages"):
        (root / name).mkdir(parents=True)
    (root / "Annotations" / "a.xml").write_text(text)
    (root / "JPEGImages" / "a.png").write_bytes(picture.read_bytes())
    return root


@pytest.mark.parametrize("kind", sorted(XML))
def test_xml(kind: str, refused: Attack, tmp_path: Path, picture: Path) -> None:
    ended = refused("data", "stats", voc(tmp_path / "voc", XML[kind], picture))
    assert "root:" not in ended.said


def test_sound_xml_is_read(bounded: Attack, tmp_path: Path, picture: Path) -> None:
    """What the attacks change is the attack alone."""
    text = f"<annotation>{OBJECT.format('red')}</annotation>"
    assert bounded("data", "stats", voc(tmp_path / "voc", text, picture)).code == 0


JSON = {
    "depth of lists": "[" * 2_000_000,
    "depth of objects": '{"images":' * 500_000,
    "depth in an entry": '{"categories": [], "images": [' + '{"a":' * 200_000 + "1",
    "a number of a million digits": '{"images": [{"id": ' + "9" * 1_000_000 + "}]}",
    "cut": '{"images": [{"id": 1, "file_name": "a.png"',
    "zero bytes": "\0" * 100_000,
    "no end of text": '{"images": "' + "x" * 5_000_000,
}


@pytest.mark.parametrize("kind", sorted(JSON))
def test_json(kind: str, refused: Attack, coco: Lay) -> None:
    refused("data", "stats", coco(JSON[kind]), says="instances_train.json")


ENTRIES: dict[str, dict[str, Any]] = {
    "a picture of 10^18 pixels a side": {
        "images": [{"id": 1, "file_name": "a.png", "width": 10**18, "height": 10**18}]
    },
    "a picture of 10^300 pixels a side": {
        "images": [{"id": 1, "file_name": "a.png", "width": 1e300, "height": 1e300}]
    },
    "a name with a zero byte": {
        "images": [{"id": 1, "file_name": "a\0/../b.png", "width": 9, "height": 9}]
    },
    "half a character": {
        "images": [{"id": 1, "file_name": "\ud800/a.png", "width": 9, "height": 9}]
    },
    "a very long name": {"images": [{"id": 1, "file_name": "a/" * 5000, "width": 9, "height": 9}]},
    "a box of 10^400": {
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 10**400, 9]}]
    },
    "a list for an id": {
        "annotations": [{"id": [1], "image_id": [1], "category_id": {}, "bbox": [1, 1, 9, 9]}]
    },
    "a class that writes to the terminal": {"categories": [{"id": 1, "name": "\x1b]0;owned\x07"}]},
    "a class that is half a character": {"categories": [{"id": 1, "name": "\ud800"}]},
    "a class that turns what follows": {"categories": [{"id": 1, "name": "a\u202eb"}]},
}


@pytest.mark.parametrize("kind", sorted(ENTRIES))
def test_coco_entries(kind: str, refused: Attack, coco: Lay) -> None:
    refused("data", "stats", coco(**ENTRIES[kind]))


def test_coco_paths_that_leave(refused: Attack, coco: Lay, tmp_path: Path, picture: Path) -> None:
    """Also written as Windows does, and also where the picture is there."""
    (tmp_path / "secret.png").write_bytes(picture.read_bytes())
    for name in (
        "../secret.png",
        str(tmp_path / "secret.png"),
        "..\\secret.png",
        "images/../../secret.png",
    ):
        root = coco(images=[{"id": 1, "file_name": name, "width": 96, "height": 64}])
        out = tmp_path / "out"
        refused("data", "convert", root, "--to", "voc", "--out", out, says="missing")
        assert not out.exists()


def test_voc_lists_that_leave(refused: Attack, tmp_path: Path, picture: Path) -> None:
    text = f"<annotation>{OBJECT.format('red')}</annotation>"
    voc(tmp_path / "elsewhere", text, picture)
    root = voc(tmp_path / "voc", text, picture)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name in (
        "../../elsewhere/Annotations/a",
        str(tmp_path / "elsewhere" / "Annotations" / "a"),
        "a\0b",
    ):
        (root / "ImageSets" / "Main" / "train.txt").write_text(f"{name}\n")
        refused("data", "convert", root, "--to", "coco", "--out", tmp_path / "out")


def test_yolo_paths_that_leave(refused: Attack, tmp_path: Path, picture: Path) -> None:
    """Folders, lists, links of a path, and names that are none."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(picture.read_bytes())
    root = tmp_path / "yolo"
    (root / "images").mkdir(parents=True)
    for train in ("../elsewhere", str(tmp_path / "elsewhere"), '"a\\0b"', "list.txt"):
        (root / "list.txt").write_text("../elsewhere/a.png\n")
        (root / "data.yaml").write_text(f"train: {train}\nnames: [a]\n")
        refused("data", "stats", root)


def test_a_link_to_a_secret_is_not_copied(
    refused: Attack, coco: Lay, tmp_path: Path, picture: Path
) -> None:
    """A COCO file tells the sizes, so nothing would have to decode what is converted."""
    secret = tmp_path / "id_ed25519"
    secret.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    root = coco()
    (root / "images" / "a.png").unlink()
    (root / "images" / "a.png").symlink_to(secret)
    for link in ((), ("--link",)):
        out = tmp_path / "out"
        refused("data", "convert", root, "--to", "yolo", "--out", out, *link, says="no image")
        assert not out.exists()


YAML = {
    "an object": "train: images\nnames: !!python/object/apply:os.system ['touch {canary}']\n",
    "a module": "train: !!python/module:antigravity x\nnames: [a]\n",
    "billion laughs": "a0: &a0 [x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    + "train: images\nnames: *a11\n",
    "merged laughs": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
    + "train: images\nnames: *a11\n",
    "itself": "train: images\nnames: &a [*a]\n",
    "depth": "train: " + "[" * 100_000,
    "ten million classes": "train: images\nnc: 10000000\n",
    "10^18 classes": "train: images\nnc: 1000000000000000000\n",
    "a number of many digits": "train: images\nnc: " + "9" * 10_000 + "\n",
    "a date that is none": "train: images\nnames: [2001-99-99]\n",
    "a key that is a list": "train: images\nnames: {[a]: b}\n",
    "a name that writes": 'train: images\nnames: ["\\e]0;x\\a"]\n',
    "zero bytes": "train: images\0\nnames: [a]\n",
}


@pytest.mark.parametrize("kind", sorted(YAML))
def test_data_yaml(kind: str, refused: Attack, tmp_path: Path, picture: Path) -> None:
    root, canary = tmp_path / "yolo", tmp_path / "canary"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "images" / "a.png").write_bytes(picture.read_bytes())
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text(YAML[kind].replace("{canary}", str(canary)))
    refused("data", "stats", root, says="data.yaml")
    assert not canary.exists()


@pytest.mark.parametrize(
    "kind", ["an object", "billion laughs", "merged laughs", "itself", "depth"]
)
def test_preset_files(kind: str, refused: Attack, tmp_path: Path) -> None:
    preset, canary = tmp_path / "preset.yaml", tmp_path / "canary"
    text = YAML[kind].replace("{canary}", str(canary)).replace("names:", "act:")
    preset.write_text("model: ssdlite320_mobilenet_v2\n" + text.replace("train: images\n", ""))
    refused("profile", preset, says="preset.yaml")
    assert not canary.exists()


def test_aliases_that_stand_for_little_are_read(tmp_path: Path) -> None:
    """Flyweight's own config.yaml has them, and so have others' data sets."""
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    text = "train: &folder images\nval: *folder\nnames: &names [a, b]\nothers: *names\n"
    (tmp_path / "data.yaml").write_text(text)
    assert open_dataset(tmp_path, "val").class_names == ("a", "b")


@pytest.mark.parametrize("name", ["../../../secret.png", "a\0b.png", "\ud800.png"])
def test_review_shows_nothing_from_elsewhere(
    name: str, coco: Lay, tmp_path: Path, picture: Path
) -> None:
    """What `flyweight label --review` would send to the browser lies in the folder."""
    (tmp_path / "secret.png").write_bytes(picture.read_bytes())
    root = coco(images=[{"id": 1, "file_name": name, "width": 9, "height": 9}])
    (root / "images" / "train").mkdir()
    with open_store(root) as store:
        assert store.picture_file(0) is None


def test_nested_json_has_a_limit(coco: Lay, refused: Attack) -> None:
    """An entry that is deep, in a list that is read in parts."""
    deep = json.loads("[" * 900 + "]" * 900)
    root = coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": deep}])
    refused("data", "stats", root)
