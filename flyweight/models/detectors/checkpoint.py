"""Checkpoints: one `.safetensors` file, the weights and a JSON header. Nothing is unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.manifest import METADATA_KEY, Manifest
from flyweight.models.detectors.config import from_dict
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.families import FAMILIES

# What `flyweight pretrain` writes as the family of its files.
CLASSIFIER = "classifier"
# A file may lack some of these, and be told so: 16 MB.
MANY_WEIGHTS = 4_000_000


class Described(Protocol):
    """A network that knows all that its file needs: a detector, or a pretrained classifier."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def manifest(self) -> Manifest: ...


def save(network: Described, path: str | os.PathLike[str]) -> None:
    """Write a detector or a classifier, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    # Channels-last weights are not contiguous in the sense of the format.
    tensors = {name: each.detach().contiguous() for name, each in network.state_dict().items()}
    metadata = {METADATA_KEY: network.manifest().to_json(), "format": "pt"}
    with write_atomically(path) as temporary:
        # Not `save_file`: it renames a file of its own over this one, readable by nobody else,
        # and hides the system's error.
        temporary.write_bytes(serialise(tensors, metadata))


def load_manifest(path: str | os.PathLike[str]) -> Manifest:
    """The header alone: config, class names, preprocessing, lineage, thresholds.

    Raises:
        InputError: the file is missing, truncated, or not a Flyweight checkpoint.
    """
    manifest, _ = _read(path, tensors=False)
    return manifest


def load(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Detector:
    """The detector of a checkpoint, in evaluation mode.

    Raises:
        InputError: the file is missing, truncated, or not a Flyweight checkpoint.
    """
    manifest, tensors = _read(path, tensors=True)
    _check_size(manifest, tensors, path)
    detector = rebuild(manifest, where=path)
    try:
        detector.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"the weights do not fit the model that the file describes: {_first_problem(error)}",
            where=path,
            fix="save it again",
        ) from error
    return detector.to(device).eval()


def _check_size(
    manifest: Manifest, tensors: dict[str, Tensor], where: str | os.PathLike[str]
) -> None:
    """Raise where the config asks for a network far larger than the file: it would be allocated."""
    with torch.device("meta"):
        described = rebuild(manifest, where=where)
    asked = sum(tensor.numel() for tensor in described.state_dict().values())
    given = sum(tensor.numel() for tensor in tensors.values())
    if asked > 2 * given + MANY_WEIGHTS:
        raise InputError(
            f"the file describes a network of {asked} weights and holds {given}",
            where=where,
            fix="save it again",
        )


def rebuild(manifest: Manifest, *, where: str | os.PathLike[str] | None = None) -> Detector:
    """The detector that a manifest describes, with fresh weights."""
    family = manifest.model.get("family")
    if family == CLASSIFIER:
        raise InputError(
            f"a pretrained {manifest.model.get('backbone')}, not a detector",
            where=where,
            fix="start a detector from it with: flyweight train NAME --pretrained FILE",
        )
    if family not in FAMILIES:
        raise InputError(
            f"unknown detector family {family!r}", where=where, fix="install a newer Flyweight"
        )
    known = FAMILIES[family]
    try:
        return known.build(
            from_dict(known.config, manifest.model),
            class_names=manifest.class_names,
            preprocessing=manifest.preprocessing,
            thresholds=manifest.thresholds,
            lineage=manifest.lineage,
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"the model's config makes no detector: {error}", where=where, fix="save it again"
        ) from error


def _read(path: str | os.PathLike[str], *, tensors: bool) -> tuple[Manifest, dict[str, Tensor]]:
    if not Path(path).is_file():
        raise InputError("no such checkpoint", where=path, fix="check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(METADATA_KEY)
            names = list(file.keys()) if tensors else []
            weights = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(
            "not a readable .safetensors file, or truncated",
            where=path,
            fix="copy or save it again",
        ) from error
    if header is None:
        raise InputError(
            "not a Flyweight checkpoint (a .safetensors file without its manifest)",
            where=path,
            fix="bring others' weights in with `flyweight convert`",
        )
    return Manifest.from_json(header, where=os.fspath(path)), weights


def _first_problem(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:]]
    return lines[0][:200] if lines else str(error)[:200]
