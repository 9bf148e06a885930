"""The state of an unfinished run: a kill leaves the last one whole, and nothing is unpickled."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically, writing_error
from flyweight.models.conversion.plain_pickle import read_plain_pickle
from flyweight.training.recipe import FREE_TO_CHANGE, Recipe

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset

FORMAT_VERSION = 1


@dataclass
class ResumeState:
    """Everything that the next step depends on. Random numbers need no state: each sample's and
    each step's follow from (seed, epoch, index).

    Attributes:
        recipe: the run's recipe as a dict.
        data: what the training images were, see `describe_data`.
        epoch: the epoch in progress, from 0.
        batches_done: steps taken in it.
        step: raw and averaged weights, momenta, place in the schedule.
        loss_sums: sum of each loss over the epoch so far.
        best_ap: best validation AP so far; None before the first evaluation.
        best_epoch: the epoch it was reached in.
        processes: how many took part; a step is that many batches.
    """

    recipe: dict[str, Any]
    data: dict[str, Any]
    epoch: int
    batches_done: int
    step: dict[str, dict[str, Any]]
    loss_sums: dict[str, Any]
    best_ap: float | None
    best_epoch: int
    processes: int = 1


def save_state(state: ResumeState, path: Path) -> None:
    """Write `state` to `path` in one move; `load_state` reads it back.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    content = {field.name: getattr(state, field.name) for field in fields(state)}
    with write_atomically(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save({"format_version": FORMAT_VERSION, **content}, file)
        except RuntimeError as error:
            # when a write fails, torch still closes its archive, and complains about that instead
            cause = _write_failure(error)
            raise error if cause is None else writing_error(path, cause) from error


def load_state(path: Path) -> ResumeState:
    """Read what `save_state` wrote.

    Raises:
        InputError: there is no such file, or it is not one.
    """
    if not path.is_file():
        raise InputError(
            "there is no run to resume", where=path, fix="give the folder of a started run"
        )
    try:
        content = read_plain_pickle(path)
        version = content.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version}")
        return ResumeState(**content)
    except (
        RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise InputError(
            "the file holds no state of a Flyweight run",
            where=path,
            fix="start the run anew with another --out",
        ) from error


def _write_failure(error: BaseException) -> OSError | None:
    """The failed write behind `error`."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError):
            return behind
        behind = behind.__cause__ or behind.__context__
    return None


def describe_data(dataset: DetectionDataset) -> dict[str, Any]:
    """What must not change between an interruption and its resumption."""
    return {
        "images": len(dataset),
        "boxes": sum(len(record.labels) for record in dataset.records),
        "class_names": list(dataset.class_names),
        "file_names": _checksum(record.path.name.encode() for record in dataset.records),
        "box_values": _checksum(record.boxes_xyxy.tobytes() for record in dataset.records),
    }


def _checksum(parts: Iterable[bytes]) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def check_same_run(
    state: ResumeState, recipe: Recipe, data: Mapping[str, Any], path: Path, *, processes: int = 1
) -> None:
    """Refuse to go on with other settings or other images: the result would be neither run.

    Raises:
        InputError: a setting that matters, the data set or the number of processes is not the
            run's.
    """
    if processes != state.processes:
        raise InputError(
            f"the run was started with {state.processes} processes, not {processes}: its steps "
            "would have other batches",
            where=path,
            fix=f"resume with {state.processes}, or start a new run with another --out",
        )
    current = recipe.to_dict()
    for name, value in state.recipe.items():
        if name not in FREE_TO_CHANGE and current.get(name) != value:
            raise InputError(
                f"the run was started with {name} {value}, not {current.get(name)}",
                where=path,
                fix="resume with the same settings, or start a new run with another --out",
            )
    for name, value in state.data.items():
        if data.get(name) != value:
            raise InputError(
                f"the training data has changed since the run was started ({name})",
                where=path,
                fix="bring the images back, or start a new run with another --out",
            )
