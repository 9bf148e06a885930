"""Networks in torch: ops, layers, backbones, necks, heads, matching, losses, detectors."""

from __future__ import annotations
