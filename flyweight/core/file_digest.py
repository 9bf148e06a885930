"""Which file it is, whatever its name."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, hexadecimal; of an .xml and a .param their .bin's too."""
    digest = hashlib.sha256(path.read_bytes())
    weights = path.with_suffix(".bin")
    if path.suffix in (".xml", ".param") and weights.is_file():
        digest.update(weights.read_bytes())
    return digest.hexdigest()
