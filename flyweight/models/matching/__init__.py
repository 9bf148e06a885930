"""Matching: which anchor is responsible for which object."""
