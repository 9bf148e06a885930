"""Data sets: reading and writing COCO, VOC and YOLO; their faults, statistics and default boxes.

Runs without torch. Start at `formats.open_dataset`, which gives a `records.DetectionDataset`.
"""

from __future__ import annotations
