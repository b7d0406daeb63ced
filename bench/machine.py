"""What a result was measured on, in words that name no host and no folder."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import psutil

import asyncbatch as ab
from bench.contenders._contend import cores

PACKAGES = [
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "aiofiles",
    "uvloop",
    "torch",
    "torchdata",
    "spdl-core",
    "spdl-io",
    "obstore",
    "litdata",
    "s3fs",
]


def describe() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "packages": {"asyncbatch": ab.__version__} | {name: version for name in PACKAGES if (version := find(name))},
    }


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def find(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def busy_cpu_seconds() -> float:
    """Return the CPU seconds that all processes of the machine have used since it started."""
    times = psutil.cpu_times()
    return times.user + times.system + getattr(times, "nice", 0.0)
