from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.image import read_image, write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.data import image_cache
from flyweight.data.image_cache import (
    CachedReader,
    DiskStore,
    Key,
    MemoryStore,
    Store,
    Version,
    parse_bytes,
)
from flyweight.transforms.pictures import Picture
from flyweight.transforms.presets import build_transform

MakeStore = Callable[[int], Store]


@pytest.fixture(params=["memory", "disk"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    if request.param == "memory":
        return MemoryStore
    return lambda max_bytes: DiskStore(tmp_path / "cache", max_bytes=max_bytes)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Noise in three formats; the last is rotated by its EXIF header in no case."""
    rng = np.random.default_rng(0)
    paths = []
    for name, size_hw in (("a.jpg", (480, 640)), ("b.jpg", (333, 251)), ("c.png", (90, 120))):
        path = tmp_path / name
        write_image(path, rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8))
        paths.append(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are really decoded, in order."""
    seen: list[Path] = []

    def spy(source: Path, *, min_size_hw: tuple[int, int] | None) -> np.ndarray:
        seen.append(source)
        return read_image(source, min_size_hw=min_size_hw)

    monkeypatch.setattr(image_cache, "read_image", spy)
    return seen


def test_every_request_gets_what_the_reader_decodes(
    make_store: MakeStore, pictures: list[Path], decoded: list[Path]
) -> None:
    reader = CachedReader(make_store(10**8))
    rng = np.random.default_rng(1)
    requests: list[tuple[int, int] | None] = [None]
    requests += [(int(high), int(wide)) for high, wide in np.exp(rng.uniform(0, 6, (60, 2)))]
    for _ in range(2):
        for path in pictures:
            for request in requests:
                expected = read_image(path, min_size_hw=request)
                np.testing.assert_array_equal(reader(path, min_size_hw=request), expected)
    # 1, 1/2, 1/4 and 1/8 of the JPEGs, the PNG whole.
    assert len(decoded) == 4 + 4 + 1


def test_samples_are_the_same_with_and_without(make_store: MakeStore, pictures: list[Path]) -> None:
    sizes = [(480, 640), (333, 251), (90, 120)]
    box = np.array([[5, 5, 60, 50]], np.float32)
    others = [
        Picture(path, box, np.array([0]), size) for path, size in zip(pictures, sizes, strict=True)
    ]
    reader = CachedReader(make_store(10**8))

    def samples(cached: bool) -> list[bytes]:
        made = []
        for name in ("ssd", "yolov4"):
            transform = build_transform(name, Preprocessing((96, 96)))
            if cached:
                object.__setattr__(transform, "read", reader)
            for seed in range(12):
                first = others[seed % 3]
                sample = transform(
                    first.source,
                    first.boxes_xyxy,
                    first.labels,
                    size_hw=first.size_hw,
                    rng=np.random.default_rng(seed),
                    others=others,
                )
                made.append(b"".join(part.tobytes() for part in sample))
        return made

    plain = samples(cached=False)
    assert samples(cached=True) == plain
    # All from the store this time.
    assert samples(cached=True) == plain


def test_a_changed_file_is_read_again(
    make_store: MakeStore, pictures: list[Path], decoded: list[Path]
) -> None:
    reader, path = CachedReader(make_store(10**8)), pictures[2]
    before = reader(path, min_size_hw=(10, 10))
    size = path.stat().st_size
    write_image(path, np.zeros((90, 120, 3), np.uint8))
    assert path.stat().st_size != size
    assert reader(path, min_size_hw=(10, 10)).max() == 0
    os.utime(path, ns=(5, 5))
    reader(path, min_size_hw=(10, 10))
    assert len(decoded) == 3
    assert before.max() > 0


def test_it_never_holds_more_than_it_may(
    make_store: MakeStore, pictures: list[Path], decoded: list[Path], tmp_path: Path
) -> None:
    # The first takes 921,600 bytes; the second would not fit beside it, the third does.
    reader = CachedReader(make_store(1_000_000))
    for _ in range(2):
        for path in pictures:
            np.testing.assert_array_equal(reader(path, min_size_hw=None), read_image(path))
    assert decoded == [*pictures, pictures[1]]
    if (tmp_path / "cache").exists():
        files = [file for file in (tmp_path / "cache").glob("*/*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) <= 1_000_000


def test_nobody_can_write_into_what_is_kept(make_store: MakeStore, pictures: list[Path]) -> None:
    reader = CachedReader(make_store(10**8))
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            reader(pictures[0])[0, 0] = 0


def test_errors_are_the_readers(make_store: MakeStore, tmp_path: Path) -> None:
    reader = CachedReader(make_store(10**8))
    with pytest.raises(InputError, match="does not exist"):
        reader(tmp_path / "none.jpg", min_size_hw=(10, 10))
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff half")
    for _ in range(2):
        with pytest.raises(InputError, match=r"half\.jpg"):
            reader(tmp_path / "half.jpg", min_size_hw=(10, 10))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write"):
        DiskStore(tmp_path / "file" / "cache", max_bytes=100)


def test_a_full_disk_is_an_input_error(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(tmp_path / "cache", max_bytes=10**8)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="disk is full"):
        CachedReader(store)(pictures[0])
    monkeypatch.undo()
    # Nothing half written is left.
    assert [file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()] == [
        "used_bytes"
    ]


def test_half_an_entry_is_none(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, max_bytes=10**6)
    key = Key("a.jpg", Version(1, 2), 1)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert store.get(key) is None
    store.put(key, image)
    found = store.get(key)
    assert found is not None
    np.testing.assert_array_equal(found, image)
    (entry,) = tmp_path.glob("*/*.raw")
    for length in (1000, 3, 0):
        entry.write_bytes(entry.read_bytes()[:length])
        assert store.get(key) is None


def fill(store: DiskStore, first: int) -> None:
    for number in range(first, first + 40):
        store.put(Key(f"{number}.jpg", Version(1, 2), 1), np.zeros((10, 10, 3), np.uint8))


def test_processes_share_folder_and_bound(tmp_path: Path) -> None:
    """Each picture takes 308 bytes: 50 fit, whichever process wrote them."""
    store = DiskStore(tmp_path, max_bytes=308 * 50 + 307)
    context = get_context("fork")
    processes = [context.Process(target=fill, args=(store, first)) for first in (0, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 40 <= len(list(tmp_path.glob("*/*.raw"))) <= 50
    again = DiskStore(tmp_path, max_bytes=308 * 50 + 307)
    fill(again, 200)
    assert len(list(tmp_path.glob("*/*.raw"))) <= 50


def test_a_lost_count_is_made_anew(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, max_bytes=308 * 45)
    fill(store, 0)
    (tmp_path / "used_bytes").write_text("?")
    fill(store, 40)
    assert len(list(tmp_path.glob("*/*.raw"))) == 45


def test_a_spawned_process_finds_what_is_kept(pictures: list[Path], tmp_path: Path) -> None:
    reader = CachedReader(DiskStore(tmp_path / "cache", max_bytes=10**7))
    image = reader(pictures[0])
    process = get_context("spawn").Process(target=reader, args=(pictures[2],))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert len(list((tmp_path / "cache").glob("*/*.raw"))) == 2
    copied = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copied(pictures[0]), image)


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("2 gb", 2 * 10**9), ("1.5GB", 1_500_000_000), ("7", 7)],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "many", "3XB", "inf"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="no size"):
        parse_bytes(text)
