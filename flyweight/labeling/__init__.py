"""Data distillation: teachers label pictures that nobody has labelled, and say how sure they are.

Radosavovic et al. 2018, "Data Distillation: Towards Omni-Supervised Learning" (arXiv 1712.04440).
"""
