"""The page's modules without a page: in Node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.web_page.page_files import STATIC

DRIVER = Path(__file__).parent / "detector_jobs.mjs"


def encoded(array: np.ndarray | bytes) -> str:
    """Bytes, or an array's, as Node takes them."""
    content = array if isinstance(array, bytes) else np.ascontiguousarray(array).tobytes()
    return base64.b64encode(content).decode()


def run_in_node(jobs: list[dict[str, Any]]) -> list[Any]:
    """The answers to `jobs` (see detector_jobs.mjs), each {"value": ...} or {"error": ...}."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("the page's modules are tested in Node, and there is none on this machine")
    given = {"detector": (STATIC / "detector").as_uri() + "/", "jobs": jobs}
    done = subprocess.run(
        [node, "--no-warnings", str(DRIVER)],
        input=json.dumps(given), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers
