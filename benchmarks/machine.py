"""Where and when something was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.process import available_cores

_GIB = 1024**3


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Processor, memory, GPU, versions of `packages`, load and date, as JSON values."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
        "load_before": round(os.getloadavg()[0], 2),  # processes that wanted to run in the minute before
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def _cpu_model() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
