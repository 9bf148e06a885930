"""A detector: the four blocks, with its class names and how its input is made."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from flyweight.core.detections import Detections
from flyweight.core.image import read_image
from flyweight.core.manifest import Manifest, Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.targets import Targets
from flyweight.models.layers.pixel_scaling import PixelScaling

# B images, H x W pixels of the input, A anchors, C classes

# Of multi-scale training, and of pictures of many shapes.
SIZES_KEPT = 16


class Objective(Protocol):
    """Raw outputs and targets to losses; matching and sampling happen here."""

    def __call__(self, raw: Any, targets: Targets) -> dict[str, Tensor]: ...


class Postprocess(Protocol):
    """Raw outputs to detections."""

    def decode(self, raw: Any) -> tuple[Tensor, Tensor]:
        """Dense boxes `xyxy [B, A, 4]`, input pixels, and scores `[B, A, C]`: what is exported."""
        ...

    def __call__(self, raw: Any, thresholds: Thresholds) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each image `boxes_xyxy [K, 4]` (input pixels), `scores [K]`, `labels [K]`."""
        ...


# A config and its network to what the raw outputs mean at the config's input size.
Interpret = Callable[[Any, Any], tuple[Objective, Postprocess]]


class Detector(nn.Module):
    """What `load`, `train` and `export` pass around.

    Attributes:
        config: the architecture's numbers.
        model: images `[B, 3, H, W]` to raw tensors.
        objective: raw tensors and `Targets` to losses.
        postprocess: raw tensors to boxes, scores, labels.
        interpret: makes the last two for another input size; None where there is only one.
        class_names: in the order of the labels.
        preprocessing: from a picture to the input.
        thresholds: from dense outputs to detections.
        lineage: licence of the code, pretrained weights, data, teacher.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: nn.Module,
        objective: Objective,
        postprocess: Postprocess,
        interpret: Interpret | None = None,
        class_names: Sequence[str],
        preprocessing: Preprocessing,
        thresholds: Thresholds | None = None,
        lineage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(class_names) != config.num_classes:
            raise ValueError(f"{len(class_names)} class names for {config.num_classes} classes")
        self.config = config
        self.model = model
        self.objective = objective
        self.postprocess = postprocess
        self.interpret = interpret
        self._interpretations: OrderedDict[tuple[int, int], nn.ModuleList] = OrderedDict()
        self.class_names = tuple(class_names)
        self.preprocessing = preprocessing
        self.thresholds = thresholds if thresholds is not None else Thresholds()
        self.lineage = dict(lineage or {})
        self.normalise = PixelScaling(preprocessing.mean, preprocessing.std)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What is exported: the network and the decoding.

        Args:
            images: uint8 `[B, H, W, 3]`, RGB, of the size that `preprocessing` gives.

        Returns:
            Boxes `xyxy [B, A, 4]` in input pixels, within the input; scores `[B, A, C]`.
        """
        return self.postprocess.decode(self.model(self.normalise(images)))

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch, scalars; their sum is minimised.

        Args:
            images: uint8 `[B, H, W, 3]`, RGB, of any size where the detector has an `interpret`.
            targets: boxes in input pixels.
        """
        objective, _ = self.interpretation((images.shape[1], images.shape[2]))
        return objective(self.model(self.normalise(images)), targets)

    def interpretation(self, size_hw: tuple[int, int]) -> tuple[Objective, Postprocess]:
        """Losses and boxes for inputs of another size: anchors are tiled anew. The last are kept.

        Raises:
            InputError: the size is too small for the network's strides.
        """
        if size_hw == self.preprocessing.size_hw:
            return self.objective, self.postprocess
        found = self._interpretations.pop(size_hw, None)
        if found is None:
            if self.interpret is None:
                raise ValueError(f"this detector takes inputs of {self.preprocessing.size_hw} only")
            config: Any = self.config
            made = self.interpret(replace(config, size_hw=size_hw), self.model)
            found = nn.ModuleList(cast(tuple[nn.Module, nn.Module], made))
        self._interpretations[size_hw] = found
        if len(self._interpretations) > SIZES_KEPT:
            self._interpretations.popitem(last=False)
        objective, postprocess = found.to(self.device)
        return cast(Objective, objective), cast(Postprocess, postprocess)

    def at_size(self, size_hw: tuple[int, int]) -> Detector:
        """A detector of the same weights, for one size of inputs."""
        if size_hw == self.preprocessing.size_hw and self.preprocessing.canvas == "fixed":
            return self
        config: Any = self.config
        objective, postprocess = self.interpretation(size_hw)
        return Detector(
            replace(config, size_hw=size_hw),
            model=self.model,
            objective=objective,
            postprocess=postprocess,
            interpret=self.interpret,
            class_names=self.class_names,
            preprocessing=replace(self.preprocessing, size_hw=size_hw, canvas="fixed"),
            thresholds=self.thresholds,
            lineage=self.lineage,
        ).train(self.training)

    def predict(
        self, image: str | os.PathLike[str] | npt.NDArray[np.uint8], *, score: float = 0.3
    ) -> Detections:
        """Detections of at least `score` in one picture: a file, or RGB uint8 `[H, W, 3]`."""
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        return self.predict_batch([pixels])[0].above(score)

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Detections of each RGB uint8 `[H, W, 3]` image, boxes in that image's own pixels."""
        if not images:
            return []
        preprocessing = self.preprocessing.for_images([image.shape[:2] for image in images])
        inputs, matrices = zip(*map(preprocessing.apply, images), strict=True)
        batch = torch.from_numpy(np.stack(inputs)).to(self.device)
        training = self.training
        self.eval()
        try:
            raw = self.model(self.normalise(batch))
        finally:
            self.train(training)
        _, postprocess = self.interpretation(preprocessing.size_hw)
        found = postprocess(raw, self.thresholds)
        return [
            Detections(
                preprocessing.invert_boxes(
                    boxes.float().cpu().numpy(), matrix, (image.shape[0], image.shape[1])
                ),
                scores.float().cpu().numpy(),
                labels.cpu().numpy(),
            )
            for (boxes, scores, labels), matrix, image in zip(found, matrices, images, strict=True)
        ]

    def manifest(self) -> Manifest:
        """Everything beside the weights that a file needs."""
        return Manifest(
            model=self.config.to_dict(),
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            lineage=self.lineage,
            thresholds=self.thresholds,
        )
