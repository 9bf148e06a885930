"""Necks: what turns a backbone's features into the levels that a head looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyweight.models.necks.fpn import FPN
from flyweight.models.necks.pan import PAN
from flyweight.models.necks.ssd_extras import SSDExtras
from flyweight.models.necks.yolo_fpn import YOLOFPN
from flyweight.models.necks.yolo_pan import YOLOPAN

__all__ = ["FPN", "PAN", "PYRAMIDS", "YOLOFPN", "YOLOPAN", "SSDExtras"]

# Called with (features, *, channels, num_levels, norm); each publishes `feature_info`.
PYRAMIDS: dict[str, Callable[..., Any]] = {
    "fpn": FPN,
    "pan": PAN,
    "yolo_fpn": YOLOFPN,
    "yolo_pan": YOLOPAN,
}
