"""A run with Ray whose teacher kills it: log, pictures, shards, file for the worker."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from flyweight.labeling.ray_engine import ray_engine
from flyweight.runtime.sources import image_files
from tests.labeling.writing_teacher import kill_driver, labeler_of

LOOKS = 7


def main(log: Path, pictures: Path, shards: Path, worker: Path) -> None:
    act = partial(kill_driver, log, LOOKS, os.getpid(), worker)
    given = [(path.name, path) for path in image_files(pictures)]
    given.sort(key=lambda each: each[1].name)
    with ray_engine(partial(labeler_of, log, act), workers=1) as engine:
        engine(given, labeler_of(log), shards, shard_images=4, batch=1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
