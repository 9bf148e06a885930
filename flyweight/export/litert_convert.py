"""The process that turns a program of torch into a .tflite file.

It runs by itself and imports nothing of Flyweight: the converter loads half a gigabyte, leaves
threads behind that make every later fork of the process a warning, may end the process where it
fails, and may live in an environment of its own (`flyweight.export.litert`).

    python -P litert_convert.py PROGRAM.pt2 MODEL.tflite
"""

from __future__ import annotations

import sys
import warnings


def convert(program_path: str, model_path: str) -> None:
    """Read a `torch.export` program of one uint8 input and write it as a flatbuffer."""
    import litert_torch
    import torch

    program = torch.export.load(program_path)
    inputs, _ = program.example_inputs
    litert_torch.convert(program.module(), inputs).export(model_path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    convert(*sys.argv[1:])
