"""What the figures of a report depend on, without saying whose machine it is."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "onnxcam",
    "onnxruntime",
    "numpy",
    "numba",
    "pillow",
    "opencv-python-headless",
    "torch",
    "torchvision",
    "grad-cam",
    "torchcam",
    "captum",
    "keras",
)


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system, versions and where the kernels come from."""
    return {
        "processor": _processor(),
        "cores": _cores(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "kernels": _kernels(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _kernels() -> str:
    from onnxcam import compiled
    from onnxcam.native.loader import Library

    origin = compiled.origin()
    if origin == "jit":
        return "Numba"
    return f"libonnxcam, variant {Library(Path(origin)).variant}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _memory() -> str | None:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return None
