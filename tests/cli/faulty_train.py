"""`flyweight train` with a fault in its second process; `test_train_together` starts it.

FAULT is "kill" (SIGKILL in the fifth step, at the first start only), "hang" (it stands still
there) or "wait" (the run stops for a signal there, in all processes).
"""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from flyweight.cli.main import main
from flyweight.training import meeting
from flyweight.training.recipe import Recipe
from flyweight.training.step import TrainingStep

FAULT = os.environ["FAULT"]
FAULTY_STEP = 4
step_of = TrainingStep.__call__
from_dict = Recipe.from_dict


def faulty_step(self: TrainingStep, batch: Any, step: int) -> Any:
    """A step, or the fault."""
    second = os.environ.get("RANK", os.environ.get("LOCAL_RANK")) == "1"
    first_start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if step == FAULTY_STEP and second and FAULT == "kill" and first_start:
        os.kill(os.getpid(), signal.SIGKILL)
    if step == FAULTY_STEP and second and FAULT == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    if step == FAULTY_STEP and FAULT == "wait":
        if not second:
            Path(os.environ["READY"]).touch()
        time.sleep(5)
    return step_of(self, batch, step)


if __name__ == "__main__":
    TrainingStep.__call__ = faulty_step  # type: ignore[method-assign]
    # the state is saved after every step
    Recipe.from_dict = staticmethod(  # type: ignore[method-assign]
        lambda content: from_dict({"save_minutes": 0, **content})
    )
    if FAULT == "hang":
        meeting.PROCESS_TIMEOUT = timedelta(seconds=float(os.environ["SECONDS"]))
    main()
