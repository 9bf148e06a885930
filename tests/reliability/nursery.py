"""A process with everything loaded that starts the command line again and again, and kills it.

Loading torch takes ten times as long as the tiny runs that are killed here; started from scratch,
most kills would hit an import, before anything is written. So each run is forked from this one:
the same `flyweight.cli.main.main`, in a process group of its own. Orders come on stdin and what
became of them goes to stdout, one JSON object a line (`tests.reliability.killing`).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

import flyweight.export.export
import flyweight.labeling.label
import flyweight.models.detectors.checkpoint
import flyweight.runtime.onnxruntime_session
import flyweight.training.loop
import flyweight.training.run  # noqa: F401
from flyweight.cli.main import main as command_line


def loaded_bytes() -> int:
    """Address space of this process (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


LIMITS = {
    "memory_bytes": (resource.RLIMIT_AS, loaded_bytes),
    "file_bytes": (resource.RLIMIT_FSIZE, lambda: 0),
    "cpu_s": (resource.RLIMIT_CPU, lambda: 0),
}


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def run(
    words: list[str], log: str, flag: str, after_s: float, limits: dict[str, int]
) -> dict[str, Any]:
    """Start `flyweight WORDS`; SIGKILL to its group after `after_s`, or once there is a `flag`.

    `limits`: what it may take: `memory_bytes` beyond what is loaded, `file_bytes`, `cpu_s`.
    """
    Path(flag).unlink(missing_ok=True)
    started = time.monotonic()
    child = os.fork()
    if not child:
        _be_the_command(words, log, limits)
    # here as well as there: the kill may come before the child's first step
    os.setpgid(child, child)
    ended, status = 0, 0
    while not ended and time.monotonic() < started + after_s and not os.path.exists(flag):
        time.sleep(0.002)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "said": Path(log).read_text(errors="replace") if os.path.exists(log) else "",
    }


def _be_the_command(words: list[str], log: str, limits: dict[str, int]) -> None:
    code: Any = 70
    try:
        os.setpgid(0, 0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for given, number in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(given, number)
        for name, limit in limits.items():
            kind, taken = LIMITS[name]
            resource.setrlimit(kind, (limit + taken(), limit + taken()))
        command_line(words)
    except SystemExit as left:
        code = left.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
