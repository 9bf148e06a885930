"""`torchrun --max-restarts`: knowing, after a restart, that a run is the one that was begun.

Elastic launching is described in https://docs.pytorch.org/docs/stable/elastic/run.html.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from flyweight.training.run_folder import RunFolder

# torchrun's own --rdzv-id, where the user gives none
UNNAMED = "none"


def launch_id() -> str | None:
    """What stays the same over the restarts of one `torchrun`; None without it.

    Its --rdzv-id, which --standalone makes up, or else the process that has started this one.
    """
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    if given == UNNAMED:
        return f"process {os.getppid()} on {socket.gethostname()}"
    return given


def was_restarted() -> bool:
    """Whether `torchrun` has started these processes again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def goes_on(folder: RunFolder) -> bool:
    """Whether this is a restart, and the run in `folder` was begun by the same `torchrun`.

    A run that was in the folder before is none of this launch's: that is still an error.
    """
    if not was_restarted() or not folder.resume.is_file():
        return False
    try:
        config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(config, dict) and config.get("launch") == launch_id()
