from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.data.image_files import (
    ImageListing,
    UniqueNames,
    is_inside,
    new_folder,
    place_image,
)


def test_no_two_stems_alike() -> None:
    names = UniqueNames()
    taken = [names.take("b.jpg", "val") for _ in range(4)]
    assert taken == ["b.jpg", "val_b.jpg", "val_b_2.jpg", "val_b_3.jpg"]
    assert names.take("B.png", "test") == "test_B.png"
    assert names.take("c.png", "test") == "c.png"


def test_listing_finds_names_and_stems_in_the_order_of_the_folders(tmp_path: Path) -> None:
    for name in ("one/a.txt", "one/b.png", "two/a.JPG", "two/deep/c.png", "two/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folders = [str(tmp_path / name) for name in ("none", "one", "two")]
    listing = ImageListing()
    assert listing.find(folders, "deep/c.png") == str(tmp_path / "two/deep/c.png")
    assert listing.find(folders, "c.png") is None
    assert listing.find_stem(folders, "a") == str(tmp_path / "two/a.JPG")
    assert listing.find_stem(folders, "b") == str(tmp_path / "one/b.png")
    assert listing.find_stem(folders, "deep/c") == str(tmp_path / "two/deep/c.png")


def test_is_inside_follows_links_and_dots(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "set/images").symlink_to(tmp_path / "disk")
    (tmp_path / "alias").symlink_to(tmp_path / "set")
    root = tmp_path / "set"
    assert is_inside(root / "a/../b", root)
    assert is_inside(root / "images/a.png", root)  # the user's own link to another disk
    assert is_inside(tmp_path / "alias/a.png", root)
    assert not is_inside(root / "../disk/a.png", root)
    assert not is_inside(tmp_path / "settings", root)


def test_a_link_that_cannot_be_made_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("another disk")

    (tmp_path / "a.png").write_bytes(b"picture")
    monkeypatch.setattr(os, "link", refuse)
    place_image(tmp_path / "a.png", tmp_path / "b.png", link=True)
    assert (tmp_path / "b.png").read_bytes() == b"picture"


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep/out") as folder:
        (folder / "file").touch()
        assert not (tmp_path / "deep/out").exists()
    assert [path.name for path in (tmp_path / "deep/out").iterdir()] == ["file"]
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "other") as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), new_folder(tmp_path / "file/out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "file"]
