"""Labelling on many machines: the shards of `shards.py`, spread over a Ray cluster by Ray Data.

What travels is the list of a shard's pictures to a worker and a line back. A worker reads the
pictures, labels them and writes its Parquet file itself, on a disk that all machines share.

Moritz et al. 2018, "Ray" (OSDI, arXiv 1712.05889); Luan et al. 2025, "The Streaming Batch Model"
(Ray Data, arXiv 2501.12407).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2

from flyweight.core.errors import FlyweightError, InputError
from flyweight.core.files import writing_error
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.shards import (
    BATCH,
    PARQUET,
    SHARD_IMAGES,
    Engine,
    Shard,
    cut_into_shards,
    label_shard,
)

# Ray starts a dead worker again without end: so often one shard may take its worker down with it.
TRIES = 4
# Only lists of names go through it; Ray wants 75 MiB at least.
OBJECT_STORE_BYTES = 96 << 20


@contextmanager
def ray_engine(
    open_labeler: Callable[[], Labeler],
    *,
    workers: int | None = None,
    threads: int = 1,
    gpus: float = 0,
    address: str | None = None,
) -> Iterator[Engine]:
    """An engine on a Ray cluster; one of this machine alone is started, and ended with the block.

    Args:
        open_labeler: opens the teachers in each worker; must pickle. Paths in it are absolute.
        workers: processes that label; by default as many as fit on the cluster.
        threads: CPUs of each worker, and threads of its networks.
        gpus: of each worker.
        address: of a running cluster, `auto` or `host:port`; None for one here.

    Raises:
        InputError: Ray is not installed, or there is no cluster at `address`.
    """
    ray = _ray()
    with ExitStack() as stack:
        if address is None:
            cores = len(os.sched_getaffinity(0))
            workers = workers or max(1, cores // threads)
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            )
            place: dict[str, Any] = {
                "num_cpus": workers * threads,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": folder,
                "include_dashboard": False,
            }
        else:
            place = {"address": address}
        try:
            ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises that itself when a machine is too busy to start it
            raise InputError(
                f"no Ray cluster: {str(error).splitlines()[0]}",
                where=address,
                fix="try again, or with --address and a cluster of `ray start --head`",
            ) from error
        stack.callback(ray.shutdown)
        _check_fits(ray.cluster_resources(), threads, gpus)
        workers = workers or max(1, int(ray.cluster_resources()["CPU"]) // threads)
        yield partial(
            write_shards_with_ray,
            open_labeler=open_labeler,
            workers=workers,
            threads=threads,
            gpus=gpus,
        )


def write_shards_with_ray(
    pictures: Iterable[tuple[str, Path]],
    labeler: Labeler,
    folder: Path,
    *,
    open_labeler: Callable[[], Labeler],
    workers: int,
    threads: int = 1,
    gpus: float = 0,
    shard_images: int = SHARD_IMAGES,
    batch: int = BATCH,
    keep: Callable[[str, Path], None] = lambda name, path: None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """As `shards.write_shards`, on a cluster that `ray.init` has joined; Parquet shards.

    The shards that are missing go to the workers one at a time. One whose worker dies goes to
    another, or to the same begun anew.

    Args:
        labeler: what `open_labeler` must give on every machine; it labels nothing itself.
        open_labeler, workers, threads, gpus: see `ray_engine`.
        keep: is called in the workers; must pickle.

    Raises:
        InputError: as `write_shards`; or a worker has other files than this machine.
        FlyweightError: a shard took its worker down with it again and again.
    """
    ray = _ray()
    shards: list[Path] = []
    rows: list[dict[str, str]] = []
    done = 0
    for shard in cut_into_shards(pictures, folder, shard_images):
        path = shard.finished()
        shards.append(path or shard.stem.with_suffix(PARQUET))
        if path is None:
            _marker(shard).unlink(missing_ok=True)  # of a run that was stopped
            rows.append(_as_row(shard))
        else:
            done += len(shard.pictures)
    progress(done)
    if rows:
        folder.mkdir(parents=True, exist_ok=True)
        _be_quiet(ray)
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ShardWorker,
            fn_constructor_args=(open_labeler, labeler.describe(), batch, keep, threads),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=threads,
            num_gpus=gpus,
        )
        for answer in answers.iter_rows():
            _check(answer)
            done += answer["pictures"]
            progress(done)
        for left in folder.glob(".*.part.*"):
            left.unlink(missing_ok=True)  # by workers that were killed while they wrote
    return shards


@dataclass
class ShardWorker:
    """Labels one shard after the other in a process of its own, with teachers it opens once.

    Attributes:
        open_labeler: see `ray_engine`.
        expected: `Labeler.describe` of the machine that asks.
        batch, keep: see `write_shards`.
        threads: of OpenCV.
    """

    open_labeler: Callable[[], Labeler]
    expected: dict[str, Any]
    batch: int
    keep: Callable[[str, Path], None]
    threads: int

    @cached_property
    def labeler(self) -> Labeler:
        """The teachers, opened.

        Raises:
            InputError: they are not those of the machine that asks.
        """
        cv2.setNumThreads(self.threads)
        labeler = self.open_labeler()
        if labeler.describe() != self.expected:
            raise InputError(
                f"the teachers on {socket.gethostname()} are other files",
                fix="give all machines the same",
            )
        return labeler

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        """Label the shard of a row of `_as_row`: where it is and how many pictures it has, or what
        is wrong."""
        pictures = [(name, Path(path)) for name, path in json.loads(row["pictures"])]
        shard = Shard(Path(row["stem"]), pictures)
        answer = {
            "stem": row["stem"], "pictures": len(pictures), "what": None, "where": None, "fix": None
        }  # fmt: skip
        try:
            if not shard.stem.parent.is_dir():
                raise InputError(
                    f"{socket.gethostname()} does not see the folder",
                    where=shard.stem.parent,
                    fix="put --out on a disk that all machines share",
                )
            # finished: by a worker that died before it could say so
            if shard.finished() is None:
                self._label(shard)
        except InputError as error:
            answer |= {"what": error.what, "where": error.where, "fix": error.fix}
        except FlyweightError as error:
            answer |= {"what": str(error), "where": row["stem"]}
        return answer

    def _label(self, shard: Shard) -> None:
        marker = _marker(shard)
        try:
            with marker.open("ab") as file:
                file.write(b".")
        except OSError as error:
            raise writing_error(marker, error) from error
        if marker.stat().st_size > TRIES:
            raise FlyweightError(
                f"a worker died {TRIES} times on the shard from {shard.pictures[0][0]} to "
                f"{shard.pictures[-1][0]}; the finished ones stay"
            )
        label_shard(shard, self.labeler, suffix=PARQUET, batch=self.batch, keep=self.keep)
        marker.unlink(missing_ok=True)


def _marker(shard: Shard) -> Path:
    """A file with a byte for each time a worker has begun the shard."""
    return shard.stem.with_name(f".{shard.stem.name}.begun")


def _as_row(shard: Shard) -> dict[str, str]:
    """As text, which takes a fifth of the memory of as many paths."""
    pictures = [(name, str(path)) for name, path in shard.pictures]
    return {"stem": str(shard.stem), "pictures": json.dumps(pictures, ensure_ascii=False)}


def _check(answer: dict[str, Any]) -> None:
    """Raise what a worker ran into, which comes as a row: Ray would wrap it in its own errors."""
    if answer["what"] is None:
        path = Path(answer["stem"]).with_suffix(PARQUET)
        if not path.is_file():
            raise InputError(
                "a worker wrote a shard that is not here",
                where=path,
                fix="put --out on a disk that all machines share",
            )
        return
    if answer["fix"] is None:
        raise FlyweightError(f"{answer['what']} ({answer['where']})")
    raise InputError(answer["what"], where=answer["where"], fix=answer["fix"])


def _check_fits(resources: dict[str, float], threads: int, gpus: float) -> None:
    if resources.get("CPU", 0) < threads or resources.get("GPU", 0) < gpus:
        raise InputError(
            f"a worker of {threads} CPUs and {gpus:g} GPUs does not fit on the cluster, which has "
            f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}",
            fix="ask for fewer --threads, or another --device",
        )


def _be_quiet(ray: ModuleType) -> None:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _ray() -> ModuleType:
    # nobody is told that this runs
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            "--engine ray needs Ray Data", fix="pip install 'flyweight[cluster]'"
        ) from error
    return ray
