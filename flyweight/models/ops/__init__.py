"""Tensor operations on boxes: arithmetic, anchors, coders, non-maximum suppression."""
