"""Heads: what turns each level's features into raw box deltas and class logits."""
