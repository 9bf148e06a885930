"""A person goes through the labels of teachers, the least certain first, in the browser."""

from __future__ import annotations

import contextlib
import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyweight.labeling.review_server import make_server
from flyweight.labeling.review_store import open_store


def review_folder(
    root: Path,
    *,
    port: int = 0,
    open_browser: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Serve the review page of the labelled data set in `root` until Ctrl-C.

    Args:
        root: what was `out` of `label_folder`.
        port: of 127.0.0.1; 0 takes a free one.
        open_browser: open the page where this machine has a screen.
        say: is told the address of the page.

    Returns:
        For JSON: how many pictures are done and left, and what became of boxes.

    Raises:
        InputError: no labels are there, another process is at work on them, the port is taken, or
            the disk is full: what was decided stays in the journal then.
    """
    with open_store(root) as store:
        server, address = make_server(store, port=port)
        with server, contextlib.suppress(KeyboardInterrupt):
            say(f"review page: {address}")
            say(f"{len(store) - store.done} of {len(store)} pictures are left; Ctrl-C ends")
            if open_browser and _has_screen():
                webbrowser.open(address)
            server.serve_forever(poll_interval=0.2)
        done = store.done
        return {
            "out": str(root),
            "annotations": str(store.folder.annotations),
            "images": len(store),
            "done": done,
            "left": len(store) - done,
            **store.marks(),
        }


def _has_screen() -> bool:
    """Whether a browser would have a window: one that writes into the terminal is of no use."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
