"""Every kind of detector, by the word that its checkpoints carry."""

from __future__ import annotations

from flyweight.models.detectors import faster_rcnn, retinanet, ssd, yolo
from flyweight.models.detectors.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (ssd.FAMILY, retinanet.FAMILY, faster_rcnn.FAMILY, yolo.FAMILY)
}
