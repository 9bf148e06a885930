from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from flyweight.data.fingerprints import fingerprint, fingerprints, near_duplicates
from flyweight.data.scenes import draw_scene


@pytest.fixture(scope="module")
def scene_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    paths = []
    for k in range(12):
        image, _ = draw_scene(k, (160, 160))
        paths.append(folder / f"{k:02d}.jpg")
        cv2.imwrite(str(paths[-1]), image[..., ::-1])
    return paths


def test_bytes_and_size(scene_files: list[Path]) -> None:
    one = fingerprint(scene_files[0])
    assert one.error is None
    assert one.sha1 == hashlib.sha1(scene_files[0].read_bytes()).hexdigest()
    assert one.size_hw == (160, 160)


@pytest.mark.parametrize("content", [b"", b"no picture at all", None])
def test_what_cannot_be_read_says_why(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    one = fingerprint(path)
    assert one.error
    assert near_duplicates([one, one]) == []


def test_truncated_file_is_an_error(scene_files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(scene_files[0].read_bytes()[:-400])
    assert fingerprint(path).error is not None


def test_near_duplicates_are_found_and_others_are_not(
    scene_files: list[Path], tmp_path: Path
) -> None:
    image = cv2.imread(str(scene_files[3]))
    assert image is not None
    smaller, again, brighter = (tmp_path / name for name in ("s.jpg", "j.jpg", "b.png"))
    cv2.imwrite(str(smaller), cv2.resize(image, (120, 120), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(again), image, [cv2.IMWRITE_JPEG_QUALITY, 50])
    cv2.imwrite(str(brighter), cv2.convertScaleAbs(image, alpha=0.9, beta=10))
    prints = fingerprints([*scene_files, smaller, again, brighter])
    pairs = near_duplicates(prints)
    assert {(3, 12), (3, 13), (3, 14)} <= set(pairs)
    assert {index for pair in pairs for index in pair} == {3, 12, 13, 14}


def test_images_without_contrast_are_not_called_alike(tmp_path: Path) -> None:
    paths = []
    for level in (10, 120, 240):
        paths.append(tmp_path / f"{level}.png")
        cv2.imwrite(str(paths[-1]), np.full((40, 40, 3), level, np.uint8))
    assert near_duplicates(fingerprints(paths)) == []
