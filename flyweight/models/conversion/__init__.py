"""Others' weights into our modules: what all formats share."""

from __future__ import annotations

from flyweight.models.conversion.by_order import convert_state_dict

__all__ = ["convert_state_dict"]
