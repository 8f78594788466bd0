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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.correspondence.memory_steps import CATALOG, STEPS
from benchmarks.correspondence.part import Setup

_SECONDS_BETWEEN = 0.02
# Steps that do not need each other, to be run at the same time.
_LANES = ("regions", "roi_features"), ("retrieval", "masks")


def measure(setup: Setup) -> dict[str, Any]:
    if not Path("/proc/self/status").is_file():
        return {"figures": "not measured: needs Linux", "headline": {}}
    few, many = setup.memory
    names = (CATALOG, *STEPS)
    figures: dict[str, Any] = {name: {} for name in names}
    for count in (few, many):
        folder = setup.work / f"memory-{count}"
        folder.mkdir()
        _run(setup, (CATALOG,), count, folder, figures)
        # A step reads what others made before it.
        with ThreadPoolExecutor(len(_LANES)) as lanes:
            running = [lanes.submit(_run, setup, steps, count, folder, figures) for steps in _LANES]
        for lane in running:
            lane.result()
        _run(setup, [name for name in STEPS if not any(name in lane for lane in _LANES)], count, folder, figures)
    for each in figures.values():
        before, after = (each[f"megabytes_at_{count}"] for count in (few, many))
        each["growth"] = after / before
        # A process takes most of its memory for its libraries, so that a share says little about a hundred million.
        each["bytes_per_photo"] = 1e6 * (after - before) / (many - few)
    growth = max(each["growth"] for each in figures.values())
    return {"photos": [few, many], "steps": figures, "headline": {"memory_growth": growth}}


def _run(setup: Setup, steps: Sequence[str], count: int, folder: Path, figures: dict[str, Any]) -> None:
    """Runs the steps in turn and enters their figures."""
    for name in steps:
        started = time.monotonic()
        peak, size = _peak(name, count, folder)
        figures[name][f"megabytes_at_{count}"] = peak / 1e6
        figures[name]["bytes_per_photo_on_disk"] = size / count
        seconds = time.monotonic() - started
        setup.say(f"memory: {name} with {count} photos: {peak / 1e6:.0f} MB, {seconds:.0f} s")


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
