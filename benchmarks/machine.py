"""What a figure was measured on, and where it is kept."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from flyweight.core.files import write_atomically

RESULTS = Path(__file__).parent / "results"

PACKAGES = (
    "flyweight",
    "numpy",
    "opencv-python-headless",
    "torch",
    "torchvision",
    "onnxruntime",
    "openvino",
    "nncf",
    "lightning",
    "faster-coco-eval",
    "pycocotools",
    "pillow",
)
# What decides the speed of a network on an x86 CPU, by the kernel's names.
INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimd",
)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and versions, ready for JSON."""
    cpuinfo = _cpuinfo()
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    description: dict[str, Any] = {
        "cpu": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "cores": _usable_cores(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
    }
    torch = sys.modules.get("torch")
    # A benchmark without torch must stay without it.
    if torch is not None and torch.cuda.is_available():
        description["gpu"] = torch.cuda.get_device_name()
    return description


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write `results/NAME.json`: the machine, then what was measured. Returns the path."""
    path = RESULTS / f"{name}.json"
    content = {"benchmark": name, "machine": describe_machine(), **result}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor; empty where the system has no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in fields}


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
