"""Sample scenes: cards on cluttered tables, drawn from a seed."""

from flyweight.data.scenes.scene import CLASS_NAMES, draw_scene, save_scenes

__all__ = ["CLASS_NAMES", "draw_scene", "save_scenes"]
