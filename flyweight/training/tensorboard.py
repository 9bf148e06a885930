"""TensorBoard events of a run, when TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# figure of `metrics.jsonl` -> where TensorBoard shows it
GROUPS = {"AP": "validation", "AP50": "validation", "AP75": "validation"}


class EventWriter:
    """Writes the figures of each epoch beside the checkpoints.

    Args:
        folder: the run folder; None writes nothing.
        first_step: the epoch that a resumed run starts with: TensorBoard drops older events from
            there on.
    """

    def __init__(self, folder: Path | None, *, first_step: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder), purge_step=first_step or None)

    def write(self, row: Mapping[str, Any], *, step: int) -> None:
        """Add every number of `row`."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(f"{GROUPS.get(name, 'train')}/{name}", value, step)
        self._writer.flush()

    def finish(self, files: Sequence[Path]) -> None:
        """Nothing: the files lie beside the events."""

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
