from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from flyweight.data.default_boxes import published_default_boxes, tile_default_boxes
from flyweight.data.diagnosis import EXAMPLES, Diagnosis, Finding
from flyweight.data.doctor import diagnose, examine
from flyweight.data.records import DetectionDataset, Record
from flyweight.data.scenes import draw_scene, save_scenes

Datasets = dict[str, DetectionDataset]
SIZE = (120, 160)
BOXES = [(10, 10, 60, 50), (70, 20, 130, 100)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures that do not look alike."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(12):
        image, _ = draw_scene((77, k), SIZE)
        cv2.imwrite(str(folder / f"{k:02d}.jpg"), image[..., ::-1])
    return folder


@pytest.fixture
def sound(pictures: Path, tmp_path: Path) -> Datasets:
    """A data set without a fault: two classes, 12 + 3 + 3 objects and more."""
    folder = tmp_path / "data"
    shutil.copytree(pictures, folder)
    paths = sorted(folder.glob("*.jpg"))
    parts = {"train": paths[:8], "val": paths[8:10], "test": paths[10:]}
    # Enough of each class that none counts as rare.
    grid = [(x, y, x + 14, y + 14) for x in range(0, 80, 20) for y in range(0, 60, 20)]
    return {
        split: DetectionDataset(
            tuple(record(path, [*BOXES, *grid]) for path in members),
            ("cat", "dog"),
            folder,
            split,
            "coco",
        )
        for split, members in parts.items()
    }


def record(path: Path, boxes: list[tuple[float, float, float, float]]) -> Record:
    count = len(boxes)
    return Record(
        image_id=path.stem,
        path=path,
        size_hw=SIZE,
        boxes_xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(count, dtype=np.int64) % 2,
        crowd=np.zeros(count, bool),
        difficult=np.zeros(count, bool),
    )


def changed(datasets: Datasets, split: str, index: int, **fields: object) -> Datasets:
    """The data sets with one record replaced."""
    records = list(datasets[split].records)
    records[index] = replace(records[index], **fields)  # type: ignore[arg-type]
    return datasets | {split: replace(datasets[split], records=tuple(records))}


def with_box(datasets: Datasets, box: tuple[float, ...], label: int = 0) -> Datasets:
    """The data sets with one more box in the first image of `train`."""
    one = datasets["train"].records[0]
    return changed(
        datasets,
        "train",
        0,
        boxes_xyxy=np.concatenate([one.boxes_xyxy, np.array([box], np.float32)]),
        labels=np.append(one.labels, label),
        crowd=np.append(one.crowd, False),
        difficult=np.append(one.difficult, False),
    )


def only(diagnosis: Diagnosis) -> Finding:
    """The single finding that there must be."""
    assert [finding.code for finding in diagnosis.findings] == [diagnosis.findings[0].code]
    return diagnosis.findings[0]


def test_a_sound_data_set_gives_no_finding(sound: Datasets) -> None:
    diagnosis = diagnose(sound)
    assert diagnosis.findings == ()
    assert diagnosis.ok
    assert diagnosis.tables["train"]["images"] == 8
    assert "nothing" in diagnosis.to_text()


BOX_FAULTS: dict[str, tuple[str, tuple[float, ...], int]] = {
    "nan_box": ("error", (1, 2, np.nan, 40), 0),
    "empty_box": ("error", (100, 60, 100, 90), 0),
    "box_outside": ("error", (161, 10, 190, 40), 0),
    "box_beyond_border": ("warning", (140, 90, 170, 110), 0),
    "tiny_box": ("warning", (150, 10, 152, 30), 0),
    "duplicate_box": ("warning", (10, 10, 60, 50.5), 0),
    "conflicting_labels": ("warning", (10, 10, 60, 50.5), 1),
    "unknown_class": ("error", (100, 60, 130, 90), 2),
}


@pytest.mark.parametrize("code", BOX_FAULTS)
def test_faults_of_boxes(sound: Datasets, code: str) -> None:
    severity, box, label = BOX_FAULTS[code]
    finding = only(diagnose(with_box(sound, box, label)))
    assert (finding.code, finding.severity, finding.count) == (code, severity, 1)
    assert "00.jpg" in finding.where[0]
    assert finding.fix


@pytest.mark.parametrize("box", [(-1, -1, 60.5, 40), (0, 0, 161, 121), (100, 60, 104, 64)])
def test_boxes_that_are_a_little_off_are_let_pass(sound: Datasets, box: tuple[float, ...]) -> None:
    assert diagnose(with_box(sound, box)).findings == ()


def test_crowds_over_objects_are_no_duplicates(sound: Datasets) -> None:
    datasets = with_box(sound, BOXES[0])
    datasets["train"].records[0].crowd[-1] = True
    assert diagnose(datasets).findings == ()


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def text(path: Path) -> None:
    path.write_text("no picture")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (missing, "missing_image"),
        (empty, "unreadable_image"),
        (truncated, "unreadable_image"),
        (text, "unreadable_image"),
    ],
)
def test_faults_of_files(sound: Datasets, harm: Callable[[Path], None], code: str) -> None:
    harm(sound["val"].records[0].path)
    finding = only(diagnose(sound))
    assert (finding.code, finding.severity) == (code, "error")
    assert "08.jpg" in finding.where[0]


def test_without_reading_images_only_missing_ones_are_found(sound: Datasets) -> None:
    text(sound["val"].records[0].path)
    assert diagnose(sound, read_images=False).findings == ()
    missing(sound["val"].records[1].path)
    assert only(diagnose(sound, read_images=False)).code == "missing_image"


@pytest.mark.parametrize(("size_hw", "word"), [((121, 160), "scale"), ((160, 120), "turned")])
def test_size_mismatch(sound: Datasets, size_hw: tuple[int, int], word: str) -> None:
    rows = np.array([0, 1])
    one = sound["train"].records[0]
    datasets = changed(
        sound,
        "train",
        0,
        size_hw=size_hw,
        boxes_xyxy=one.boxes_xyxy[rows] * 0.8,
        labels=one.labels[rows],
        crowd=one.crowd[rows],
        difficult=one.difficult[rows],
    )
    finding = only(diagnose(datasets))
    assert (finding.code, finding.severity) == ("size_mismatch", "error")
    assert word in finding.fix
    assert "is 160 x 120" in finding.where[0]


def test_duplicate_ids(sound: Datasets) -> None:
    assert only(diagnose(changed(sound, "train", 1, image_id="00"))).code == "duplicate_image_id"


@pytest.mark.parametrize(
    ("target", "code", "severity"),
    [("09.jpg", "shared_image", "error"), ("05.jpg", "duplicate_image", "warning")],
)
def test_copies_by_content(sound: Datasets, target: str, code: str, severity: str) -> None:
    first = sound["train"].records[0].path
    shutil.copy(first, first.with_name(target))
    finding = only(diagnose(sound))
    assert (finding.code, finding.severity) == (code, severity)
    assert "train/00.jpg" in finding.where[0]
    assert target in finding.where[0]


@pytest.mark.parametrize(
    ("target", "code", "severity"),
    [("09.jpg", "similar_image_in_splits", "warning"), ("05.jpg", "similar_images", "info")],
)
def test_the_same_picture_saved_again(
    sound: Datasets, target: str, code: str, severity: str
) -> None:
    first = sound["train"].records[0].path
    image = cv2.imread(str(first))
    assert image is not None
    cv2.imwrite(str(first.with_name(target)), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    finding = only(diagnose(sound))
    assert (finding.code, finding.severity, finding.count) == (code, severity, 1)


def relabelled(datasets: Datasets, split: str, label: int) -> Datasets:
    """The data sets with every object of `split` of class `label`."""
    for one in datasets[split].records:
        one.labels[:] = label
    return datasets


def test_a_class_that_train_lacks(sound: Datasets) -> None:
    finding = only(diagnose(relabelled(sound, "train", 0)))
    assert (finding.code, finding.severity) == ("class_absent_from_train", "warning")
    assert finding.where == ("dog",)


def test_a_class_that_a_split_lacks(sound: Datasets) -> None:
    finding = only(diagnose(relabelled(sound, "val", 1)))
    assert (finding.code, finding.where) == ("class_absent_from_split", ("cat in val",))


def test_a_class_that_nothing_has(sound: Datasets) -> None:
    datasets = {
        split: replace(dataset, class_names=("cat", "dog", "cow"))
        for split, dataset in sound.items()
    }
    finding = only(diagnose(datasets))
    assert (finding.code, finding.where) == ("class_without_objects", ("cow",))


def test_a_rare_class(sound: Datasets) -> None:
    for one in sound["train"].records[1:]:
        one.labels[:] = 0
    finding = only(diagnose(sound))
    assert (finding.code, finding.severity) == ("rare_class", "info")


def test_splits_without_images_objects_or_validation(sound: Datasets) -> None:
    emptied = sound | {"test": replace(sound["test"], records=())}
    codes = {finding.code for finding in diagnose(emptied).findings}
    assert codes == {"no_images", "class_absent_from_split"}
    bare = sound
    nothing = np.zeros((0, 4), np.float32)
    none = np.zeros(0, bool)
    for index in range(2):
        bare = changed(
            bare,
            "val",
            index,
            boxes_xyxy=nothing,
            labels=np.zeros(0, np.int64),
            crowd=none,
            difficult=none,
        )
    codes = {finding.code for finding in diagnose(bare).findings}
    assert codes == {"no_objects", "class_absent_from_split"}
    without = {split: sound[split] for split in ("train", "test")}
    assert only(diagnose(without)).code == "no_validation_split"


def test_many_empty_images(sound: Datasets) -> None:
    datasets = sound
    for index in range(5):
        datasets = changed(
            datasets,
            "train",
            index,
            boxes_xyxy=np.zeros((0, 4), np.float32),
            labels=np.zeros(0, np.int64),
            crowd=np.zeros(0, bool),
            difficult=np.zeros(0, bool),
        )
    finding = only(diagnose(datasets))
    assert (finding.code, finding.severity) == ("many_empty_images", "info")
    assert "5 of 8" in finding.where[0]


def test_objects_that_no_anchor_matches(sound: Datasets) -> None:
    grids = [(40, 40)]
    fitting = tile_default_boxes(grids, [[(14 / 160, 14 / 120), (50 / 160, 40 / 120), (0.4, 0.66)]])
    huge = tile_default_boxes(grids, [[(1.0, 1.0)]])
    matched = diagnose(sound, anchors_xyxy=fitting, match_iou=0.3)
    assert matched.findings == ()
    assert matched.recall is not None
    assert matched.recall.total.recall > 0.9
    finding = only(diagnose(sound, anchors_xyxy=huge))
    assert (finding.code, finding.severity) == ("objects_without_anchor", "warning")
    assert "--anchors fit" in finding.fix
    assert any(place.startswith("cat") for place in finding.where)


def test_findings_are_ordered_counted_and_cut(sound: Datasets) -> None:
    datasets = sound
    for k in range(EXAMPLES + 2):
        datasets = with_box(datasets, (100 + 5 * k, 100, 102 + 5 * k, 110))
    missing(datasets["test"].records[0].path)
    diagnosis = diagnose(datasets)
    assert [finding.severity for finding in diagnosis.findings] == ["error", "warning"]
    assert not diagnosis.ok
    tiny = diagnosis.findings[1]
    assert tiny.count == EXAMPLES + 2
    assert len(tiny.where) == EXAMPLES
    content = json.loads(json.dumps(diagnosis.to_dict()))
    assert content["ok"] is False
    assert [one["code"] for one in content["findings"]] == ["missing_image", "tiny_box"]
    assert "missing_image" in diagnosis.to_text()


def test_examine_passes_on_what_the_loader_reports(tmp_path: Path) -> None:
    root = save_scenes(tmp_path / "s", train=12, val=6, test=0, size_hw=(96, 96))
    assert examine(root).ok
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 99
    content["annotations"][1]["image_id"] = 12345
    content["annotations"][2]["id"] = content["annotations"][3]["id"]
    content["annotations"][4]["bbox"] = [1, 2, None, 4]
    path.write_text(json.dumps(content))
    diagnosis = examine(root)
    assert not diagnosis.ok
    found = {finding.code: finding for finding in diagnosis.findings}
    assert {"unknown_class", "unknown_image", "nan_box"} <= {
        code for code, finding in found.items() if finding.severity == "error"
    }
    assert found["duplicate_annotation_id"].severity == "warning"
    assert "99" in found["unknown_class"].where[0]


@pytest.mark.parametrize("name", ["bccd", "cards", "tiny_coco"])
def test_real_data_sets_have_no_error(shared_dir: Path, name: str) -> None:
    anchors = tile_default_boxes(
        [(side, side) for side in (20, 10, 5, 3, 2, 1)], published_default_boxes()
    )
    diagnosis = examine(shared_dir / "data" / name, anchors_xyxy=anchors)
    assert diagnosis.ok, diagnosis.to_text()
    assert diagnosis.recall is not None
    codes = {finding.code for finding in diagnosis.findings}
    # Platelets of 40 pixels in 640 are what SSD's published boxes miss.
    assert ("objects_without_anchor" in codes) == (name != "cards")
