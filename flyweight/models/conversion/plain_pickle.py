"""Pickles of tensors, which others call `.pth` or `.pt`: read without running what is in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_plain_pickle(path: Path) -> Any:
    """What `torch.save` wrote, by torch's restricted reader: tensors and plain containers only.

    Raises:
        ValueError: the archive or a tensor would be larger in memory than in the file.
        Exception: torch raises half a dozen kinds for a broken or unsafe file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # torch stores tensors as they are; a packed one may unfold to any size.
            if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
                raise ValueError("packed tensors")
    content = torch.load(path, map_location="cpu", weights_only=True)
    _check_sizes(content)
    return content


def _check_sizes(content: Any) -> None:
    """Raise where a tensor says it is larger than its memory: a copy of it would be."""
    if isinstance(content, Tensor):
        if content.numel() * content.element_size() > content.untyped_storage().nbytes():
            raise ValueError(f"a tensor of {list(content.shape)} without that many values")
    elif isinstance(content, dict):
        for each in content.values():
            _check_sizes(each)
    elif isinstance(content, list | tuple):
        for each in content:
            _check_sizes(each)
