"""Average precision: how good a predictor's detections are on labelled images, whether one is
better than another by more than chance, and why detections are wrong."""

from flyweight.evaluation.coco_ap import EvaluationResult, average_precision
from flyweight.evaluation.detection_errors import DetectionErrors, find_errors
from flyweight.evaluation.evaluate import detect, evaluate
from flyweight.evaluation.paired import Comparison, compare, compare_detections
from flyweight.evaluation.precision_recall import PrecisionRecall

__all__ = [
    "Comparison",
    "DetectionErrors",
    "EvaluationResult",
    "PrecisionRecall",
    "average_precision",
    "compare",
    "compare_detections",
    "detect",
    "evaluate",
    "find_errors",
]
