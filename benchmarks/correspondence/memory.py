"""Does the memory of a step grow with the number of photos?

Each step runs in a process of its own, once on few and once on many photos: a data set of links to the same eight
small pictures, small networks and few boxes, so that the count is what is large. Peak memory is what
the process holds for itself (`RssAnon` in /proc), looked at every few milliseconds; pages of mapped files are the
kernel's, which takes them back when it needs them, and are not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.correspondence.memory_steps import CATALOG, STEPS
from benchmarks.correspondence.part import Setup

_SECONDS_BETWEEN = 0.02


def measure(setup: Setup) -> dict[str, Any]:
    if not Path("/proc/self/status").is_file():
        return {"figures": "not measured: needs Linux", "headline": {}}
    few, many = setup.memory
    names = (CATALOG, *STEPS)
    figures: dict[str, Any] = {name: {} for name in names}
    for count in (few, many):
        folder = setup.work / f"memory-{count}"
        folder.mkdir()
        # Steps read what earlier ones made, so they run in turn.
        for name in names:
            started = time.monotonic()
            peak, size = _peak(name, count, folder)
            seconds = time.monotonic() - started
            figures[name][f"megabytes_at_{count}"] = peak / 1e6
            figures[name]["bytes_per_photo_on_disk"] = size / count
            setup.say(f"memory: {name} with {count} photos: {peak / 1e6:.0f} MB, {seconds:.0f} s")
    for each in figures.values():
        each["growth"] = each[f"megabytes_at_{many}"] / each[f"megabytes_at_{few}"]
    growth = max(each["growth"] for each in figures.values())
    return {"photos": [few, many], "steps": figures, "headline": {"memory_growth": growth}}


def _peak(step: str, count: int, folder: Path) -> tuple[int, int]:
    """Bytes of memory that the step took at most, and bytes of what it made."""
    command = [sys.executable, "-m", "benchmarks.correspondence.memory_steps", step, str(count), str(folder)]
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    with subprocess.Popen(command, env=os.environ | threads, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        with ThreadPoolExecutor(1) as reader:
            assert child.stdout is not None
            output = reader.submit(child.stdout.read)
            peak = 0
            while child.poll() is None:
                peak = max(peak, _held(child.pid))
                time.sleep(_SECONDS_BETWEEN)
        if child.returncode:
            raise RuntimeError(f"{step} with {count} photos failed:\n{output.result().decode()[-2000:]}")
    size = sum(path.stat().st_size for path in (folder / step).rglob("*") if "scratch" not in path.parts)
    return peak, size


def _held(process: int) -> int:
    """Bytes of memory of a process that belong to no file."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
