"""The network that is pretrained, and the file that hands its backbone on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import build_classifier
from flyweight.models.detectors.checkpoint import CLASSIFIER, load_manifest, save
from flyweight.models.detectors.parts import IMAGENET_MEAN, IMAGENET_STD, make_norm
from flyweight.models.detectors.zoo import CODE_LICENCE, checked_class_names, checked_size
from flyweight.models.layers.pixel_scaling import PixelScaling
from flyweight.models.pretrained import (
    PRETRAINED_NORM_EPS,
    load_pretrained_backbone,
    read_tensors,
)

DEFAULT_EPS = 1e-5
# As the detectors over these backbones have them: what is not here has BatchNorm and no options.
NORMS = {"document_net": "group"}
# SSD's VGG, whose fc6 and fc7 are convolutions; that of Faster R-CNN is a part of it.
OPTIONS = {"vgg16": {"atrous": True}}


@dataclass(frozen=True)
class ClassifierConfig:
    """All numbers of a classifier that its weights depend on, named as in detectors' configs.

    Attributes:
        backbone: a name of `flyweight.models.backbones`.
        num_classes: K.
        width: multiplier of the channels.
        backbone_norm: "batch", "group" or "none".
        backbone_norm_eps: of BatchNorm.
    """

    backbone: str
    num_classes: int
    width: float = 1.0
    backbone_norm: str = "batch"
    backbone_norm_eps: float = 1e-5

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the family; `from_dict` reads it back."""
        return {"family": CLASSIFIER, "name": self.backbone, **asdict(self)}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> ClassifierConfig:
        """The inverse of `to_dict`."""
        names = ClassifierConfig.__dataclass_fields__
        return ClassifierConfig(**{name: content[name] for name in names})


class ImageClassifier(nn.Module):
    """A backbone's classifier with the scaling of its input, its classes and where it comes from.

    Attributes:
        config: the architecture's numbers.
        classifier: normalised images to logits.
        class_names: in the order of the logits.
        preprocessing: size, mean and deviation of the input.
        lineage: licence of the code, pretrained weights, data.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        *,
        class_names: Sequence[str],
        preprocessing: Preprocessing,
        lineage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.classifier = build_classifier(
            config.backbone,
            num_classes=config.num_classes,
            width=config.width,
            norm=make_norm(config.backbone_norm, eps=config.backbone_norm_eps),
            **OPTIONS.get(config.backbone, {}),
        )
        self.class_names = tuple(class_names)
        self.preprocessing = preprocessing
        self.lineage = dict(lineage or {})
        self.normalise = PixelScaling(preprocessing.mean, preprocessing.std)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images `[B, H, W, 3]`, RGB, to logits `[B, K]`."""
        logits: Tensor = self.classifier(self.normalise(images))
        return logits

    def manifest(self) -> Manifest:
        """Everything beside the weights that a file needs."""
        return Manifest(
            model=self.config.to_dict(),
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            lineage=self.lineage,
        )

    @staticmethod
    def from_manifest(manifest: Manifest) -> ImageClassifier:
        """The classifier that a manifest describes, with fresh weights."""
        return ImageClassifier(
            ClassifierConfig.from_dict(manifest.model),
            class_names=manifest.class_names,
            preprocessing=manifest.preprocessing,
            lineage=manifest.lineage,
        )


def build_image_classifier(
    backbone: str,
    *,
    classes: Sequence[str],
    width: float = 1.0,
    size: int | tuple[int, int] = 128,
    norm: str | None = None,
    pretrained: str | os.PathLike[str] = "none",
) -> ImageClassifier:
    """A classifier ready to be trained.

    Args:
        backbone: a name of `flyweight.models.backbones`.
        classes: names, in the order of the labels.
        width: multiplier of the backbone's channels.
        size: of the input, pixels: a side, or height and width.
        norm: of the backbone: "batch", "group" or "none"; if None, what the weights it starts
            from have, else the one that detectors over this backbone have.
        pretrained: `none`, `imagenet` for the backbone's ImageNet weights, or a file of weights,
            such as another classifier's. Norm and scaling of the input are then theirs; the
            activation is the backbone's own, as in a detector that is given the result.

    Raises:
        InputError: an unknown name, or weights that do not fit.
    """
    names, source = checked_class_names(classes), os.fspath(pretrained)
    own, scaling = _starting_point(backbone, source)
    if norm is not None:
        own["backbone_norm"] = norm
    config = ClassifierConfig(backbone, len(names), width=float(width), **own)
    preprocessing = Preprocessing(size_hw=checked_size(size), mean=scaling.mean, std=scaling.std)
    network = ImageClassifier(config, class_names=names, preprocessing=preprocessing)
    lineage = load_pretrained_backbone(network.classifier.backbone, backbone, source)
    network.lineage = {"code_licence": CODE_LICENCE, "pretrained": lineage}
    return network


def check_input(backbone: str, *, width: float, size: int | tuple[int, int]) -> None:
    """That there is such a backbone, and something left of an input of `size` after its strides.

    Raises:
        InputError: there is not.
    """
    height, width_in_pixels = checked_size(size)
    with torch.device("meta"):
        network = build_classifier(backbone, num_classes=2, width=width).eval()
        try:
            network(torch.zeros(1, 3, height, width_in_pixels))
        except RuntimeError as error:
            raise InputError(
                f"an input of {height}x{width_in_pixels} is too small for {backbone}",
                where="size",
                fix="take a larger one, such as 128",
            ) from error


def _starting_point(backbone: str, source: str) -> tuple[dict[str, Any], Preprocessing]:
    """Fields of the config that the weights at `source` need, and how their input was scaled."""
    published = PRETRAINED_NORM_EPS.get(backbone, DEFAULT_EPS)
    norm: dict[str, Any] = {
        "backbone_norm": NORMS.get(backbone, "batch"),
        "backbone_norm_eps": DEFAULT_EPS if published is None else published,
    }
    if source == "none":
        return norm, Preprocessing()
    if source.endswith(".safetensors"):
        with suppress(InputError):  # not ours: then others', scaled as ImageNet's
            manifest = load_manifest(source)
            theirs = manifest.model
            eps = theirs.get("backbone_norm_eps")
            norm["backbone_norm"] = theirs.get("backbone_norm", "batch")
            norm["backbone_norm_eps"] = theirs.get("norm_eps", DEFAULT_EPS) if eps is None else eps
            return norm, manifest.preprocessing
    scaling = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if published is None:
        norm["backbone_norm"] = "none"  # published before there was BatchNorm
    return norm, scaling


def save_classifier(network: ImageClassifier, path: str | os.PathLike[str]) -> None:
    """Write the weights with their manifest, whole or not at all; `load_classifier` reads it back.

    The file is one that `--pretrained` takes: the header says which backbone it has, at which
    width, with which norm and scaling of the input.

    Raises:
        InputError: it cannot be written there.
    """
    save(network, path)


def load_classifier(path: str | os.PathLike[str]) -> ImageClassifier:
    """The classifier that `save_classifier` wrote, in evaluation mode.

    Raises:
        InputError: it is no such file.
    """
    tensors, header = read_tensors(Path(path))
    if header.get("model", {}).get("family") != CLASSIFIER:
        raise InputError(
            "not a classifier's file", where=path, fix="give one that flyweight pretrain wrote"
        )
    network = ImageClassifier.from_manifest(
        Manifest.from_json(json.dumps(header), where=os.fspath(path))
    )
    network.load_state_dict(tensors)
    return network.eval()
