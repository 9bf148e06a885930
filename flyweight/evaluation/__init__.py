"""Average precision: how good a predictor's detections are on labelled images."""

from flyweight.evaluation.coco_ap import EvaluationResult, average_precision
from flyweight.evaluation.evaluate import detect, evaluate
from flyweight.evaluation.precision_recall import PrecisionRecall

__all__ = ["EvaluationResult", "PrecisionRecall", "average_precision", "detect", "evaluate"]
