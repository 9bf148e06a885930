"""The Ray engine: the same labels, and what kills, full disks and other machines do to it.

A teacher writes down every picture it is shown, so that what was done twice can be counted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import FlyweightError, InputError
from flyweight.core.image import read_image
from flyweight.data.records import DetectionDataset
from flyweight.labeling.label import label_folder
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.ray_engine import ShardWorker, ray_engine, write_shards_with_ray
from flyweight.labeling.shards import read_shards
from tests.labeling.writing_teacher import (
    digest_of,
    fill_disk,
    kill_at,
    kill_once,
    labeler_of,
    no_teachers,
    nothing,
)

NEEDS_RAY = "Ray Data is not installed: pip install 'flyweight[cluster]'"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=NEEDS_RAY)
pytestmark = [
    # of Ray's own making
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

Write = Callable[..., list[Path]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine, with room for two workers."""
    ray = pytest.importorskip("ray", reason=NEEDS_RAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # workers import the tests
        with ray_engine(partial(labeler_of, Path("unused")), workers=2):
            yield ray
    assert not ray.is_initialized()


@pytest.fixture
def short_folder() -> Iterator[str]:
    """For what a killed Ray leaves; its sockets do not fit below `tmp_path`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def write(cluster: Any, log: Path, unlabelled: DetectionDataset, tmp_path: Path) -> Write:
    """`write(act)`: label eleven pictures in shards of four, a picture at a time."""
    given = [(record.path.name, record.path) for record in unlabelled.records]

    def run(
        act: Callable[[str], None] = nothing,
        open_labeler: Callable[[], Labeler] | None = None,
    ) -> list[Path]:
        return write_shards_with_ray(
            given,
            labeler_of(log),
            tmp_path / "s",
            open_labeler=open_labeler or partial(labeler_of, log, act),
            workers=2,
            shard_images=4,
            batch=1,
        )

    return run


def times_seen(log: Path, dataset: DetectionDataset) -> list[int]:
    """How often the teacher saw each picture."""
    seen = Counter(log.read_text().split())
    return [seen[digest_of(read_image(record.path))] for record in dataset.records]


def test_the_labels_are_those_of_the_local_engine(
    cluster: Any,
    log: Path,
    unlabelled: DetectionDataset,
    labelled: DetectionDataset,
    tmp_path: Path,
) -> None:
    """The same bytes; then nothing is done again, by either engine."""
    engine = partial(write_shards_with_ray, open_labeler=partial(labeler_of, log), workers=2)
    told: list[tuple[str, int, int]] = []
    here = label_folder(
        unlabelled.root, tmp_path / "here", labeler_of(tmp_path / "other"), labelled, shard_images=4
    )
    there = label_folder(
        unlabelled.root,
        tmp_path / "there",
        labeler_of(log),
        labelled,
        shard_images=4,
        engine=engine,
        progress=lambda *what: told.append(what),
    )
    assert there.annotations.read_bytes() == here.annotations.read_bytes()
    assert sorted(path.name for path in (tmp_path / "there" / "shards").iterdir()) == [
        "00000.parquet", "00001.parquet", "00002.parquet",
    ]  # fmt: skip
    assert len(list((tmp_path / "there" / "images" / "train").rglob("*.png"))) == 11
    assert times_seen(log, unlabelled) == [1] * 11
    assert ("labelling", 11, 11) in told
    before = log.read_text()
    again = label_folder(
        unlabelled.root, tmp_path / "there", labeler_of(log), labelled, shard_images=4
    )
    assert again.annotations.read_bytes() == here.annotations.read_bytes()
    assert log.read_text() == before


def test_a_worker_that_is_killed(
    write: Write, log: Path, unlabelled: DetectionDataset, tmp_path: Path
) -> None:
    """Another begins its shard anew; what it had done of it is all that is done twice."""
    digest = digest_of(read_image(unlabelled.records[6].path))
    rows = list(read_shards(write(partial(kill_once, digest, tmp_path / "killed"))))
    assert (tmp_path / "killed").exists()
    assert times_seen(log, unlabelled) == [1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1]
    assert [row.name for row in rows] == [record.path.name for record in unlabelled.records]
    assert all(row.problem is None for row in rows)


def test_a_full_disk_leaves_the_finished_shards(
    write: Write, log: Path, unlabelled: DetectionDataset, tmp_path: Path
) -> None:
    """The same command goes on when there is space again. A picture that went meanwhile is said."""

    last = digest_of(read_image(unlabelled.records[-1].path))
    unlabelled.records[9].path.unlink()
    # Any shard of that worker, whose files have no room from then on, may be the first to say so.
    with pytest.raises(InputError, match=r"the disk is full.*0000\d\.parquet"):
        write(partial(fill_disk, last))
    names = [path.name for path in (tmp_path / "s").iterdir()]
    assert "00002.parquet" not in names
    assert not [name for name in names if ".part" in name]
    rows = list(read_shards(write()))
    assert [number for number, row in enumerate(rows) if row.problem] == [9]


@pytest.mark.slow
def test_a_driver_that_is_killed(
    write: Write, log: Path, unlabelled: DetectionDataset, tmp_path: Path, short_folder: str
) -> None:
    """Its cluster ends with it, and the same command goes on: only the open shard is done again."""
    worker = tmp_path / "worker"
    arguments = [log, unlabelled.root, tmp_path / "s", worker]
    driver = subprocess.run(
        [sys.executable, "-m", "tests.labeling.killed_driver", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": short_folder},
        timeout=120,
    )
    assert driver.returncode == -signal.SIGKILL
    _wait_until_ended(int(worker.read_text()))
    assert sum(times_seen(log, unlabelled)) == 7
    finished = {row.name for row in read_shards((tmp_path / "s").glob("*.parquet"))}
    assert len(finished) in (3, 4)  # the last shard is of three
    rows = list(read_shards(write()))
    assert all(row.problem is None for row in rows)
    seen = times_seen(log, unlabelled)
    assert min(seen) == 1
    assert sum(seen) == 11 + 7 - len(finished)
    for record, times in zip(unlabelled.records, seen, strict=True):
        assert times == 1 or record.path.name not in finished


@pytest.mark.slow
def test_a_picture_that_kills_every_worker(
    write: Write, log: Path, unlabelled: DetectionDataset, tmp_path: Path
) -> None:
    """Ray alone would start workers for ever. What is named is where to look."""
    digest = digest_of(read_image(unlabelled.records[6].path))
    with pytest.raises(FlyweightError, match=r"died 4 times on the shard from 04.png to 07.png"):
        write(partial(kill_at, digest))
    assert times_seen(log, unlabelled)[6] == 4
    assert len(list(read_shards(write()))) == 11


def _wait_until_ended(process: int, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}/cmdline").is_file() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{process}/cmdline").is_file()


def test_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"pip install 'flyweight\[cluster\]'"),
        ray_engine(partial(labeler_of, Path("unused"))),
    ):
        pass


@pytest.fixture
def row(unlabelled: DetectionDataset, tmp_path: Path) -> dict[str, str]:
    """What a worker is given: the shard `s/00000` of two pictures."""
    pictures = [(record.path.name, str(record.path)) for record in unlabelled.records[:2]]
    (tmp_path / "s").mkdir()
    return {"stem": str(tmp_path / "s" / "00000"), "pictures": json.dumps(pictures)}


def worker_of(log: Path, opened: Callable[[], Labeler]) -> ShardWorker:
    return ShardWorker(opened, labeler_of(log).describe(), 1, lambda name, path: None, 1)


def test_a_worker_does_a_shard_once(row: dict[str, str], log: Path, tmp_path: Path) -> None:
    """Also when the one before it died without a word; what it leaves is its shard alone."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    worker = worker_of(log, partial(labeler_of, log))
    assert worker(row) == worker(row)
    assert len(log.read_text().split()) == 2
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["00000.parquet"]


def test_a_worker_does_not_die_for_ever(row: dict[str, str], log: Path, tmp_path: Path) -> None:
    (tmp_path / "s" / ".00000.begun").write_bytes(b"....")
    answer = worker_of(log, partial(labeler_of, log))(row)
    assert "died 4 times on the shard from 00.png to 01.png" in answer["what"]
    assert not log.exists()


def test_a_worker_with_other_teachers(row: dict[str, str], log: Path) -> None:
    answer = worker_of(log, no_teachers)(row)
    assert "are other files" in answer["what"]


def test_a_worker_that_does_not_see_the_folder(
    row: dict[str, str], log: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").rmdir()
    answer = worker_of(log, partial(labeler_of, log))(row)
    assert "does not see the folder" in answer["what"]
    assert "share" in answer["fix"]
    assert not (tmp_path / "s").exists()


@needs_ray
def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    with (
        pytest.raises(InputError, match="no Ray cluster"),
        ray_engine(partial(labeler_of, Path("unused")), address="auto"),
    ):
        pass
