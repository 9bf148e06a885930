"""Presets: plain functions that return a config, one file a family of detectors."""
