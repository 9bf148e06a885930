"""Distillation: a detector learns from another's outputs beside the labels.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531);
for detectors Chen et al. 2017, "Learning Efficient Object Detection Models with Knowledge
Distillation" (NeurIPS).
"""
