"""The objects of a batch of images, padded to one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True)
class Targets:
    """What a batch of images shows. B images, G object slots of each.

    Padded so that matching and losses run over the whole batch at once, without a Python loop.

    Attributes:
        boxes_xyxy: float32 `[B, G, 4]`, pixels of the network's input; zeros where padded.
        labels: int64 `[B, G]`, contiguous from 0; -1 where padded.
        ignored_xyxy: float32 `[B, R, 4]`, regions where nothing is called background, such as
            crowds; zeros where padded. None for none.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    ignored_xyxy: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """bool `[B, G]`, false where a slot is padding."""
        return self.labels >= 0

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """The same on another device."""
        ignored = self.ignored_xyxy
        return Targets(
            self.boxes_xyxy.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            None if ignored is None else ignored.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Targets:
        """The same in page-locked memory; a torch DataLoader calls this."""
        ignored = self.ignored_xyxy
        return Targets(
            self.boxes_xyxy.pin_memory(),
            self.labels.pin_memory(),
            None if ignored is None else ignored.pin_memory(),
        )

    @staticmethod
    def from_lists(boxes_xyxy: Sequence[Tensor], labels: Sequence[Tensor]) -> Targets:
        """Pad the objects of each image: boxes `[G_i, 4]` and labels `[G_i]`, possibly none."""
        slots = max((len(each) for each in labels), default=0)
        padded = Targets(
            torch.zeros(len(labels), slots, 4), torch.full((len(labels), slots), PADDING)
        )
        for index, (boxes, classes) in enumerate(zip(boxes_xyxy, labels, strict=True)):
            padded.boxes_xyxy[index, : len(classes)] = boxes
            padded.labels[index, : len(classes)] = classes
        return padded
