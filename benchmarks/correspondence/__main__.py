"""How fast and how faithful is stage 3, beside what others offer?

    python -m benchmarks.correspondence [--photos N] [--rounds R] [--data DIR] [--device cpu|cuda] [--only PART ...]

Parts: selective_search, segmentation, filter, crops, embedding, knn, pairs, stage, memory; see their docstrings. All
ways of a part run in turn, round by round. Figures are medians over the rounds with 5th and 95th percentiles; ratios
are taken within a round, above 1 where ours is faster. Prints a table, and as its last line one JSON object whose first
keys are the figures that matter. The whole takes some 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.correspondence.data import Data
from benchmarks.correspondence.part import Setup
from benchmarks.machine import machine
from stages.learning.devices import resolve_device
from stages.process import available_cores

PARTS = ("selective_search", "segmentation", "filter", "crops", "embedding", "knn", "pairs", "stage", "memory")
# In any report, be it only to say that they were not measured.
HEADLINES = (
    "selective_search_vs_opencv",
    "selective_search_overlap",
    "selective_search_recall_delta",
    "felzenszwalb_vs_skimage",
    "roi_crops_vs_pil",
    "stage_vs_official_order",
    "memory_growth",
)
_PACKAGES = ("torch", "timm", "numpy", "numba", "opencv-contrib-python-headless", "scikit-image", "pillow", "pyarrow")
_QUICK_KNN, _QUICK_MEMORY = (400, 32), (40, 80)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000, help="photos of the whole stage (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each timing; long ones have fewer (5)")
    parser.add_argument("--data", type=Path, help="VOCdevkit/VOC2007 or a folder of photos; default: what is found")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="default: all parts")
    parser.add_argument("--knn", nargs=2, type=int, default=(118_000, 2048), metavar=("ROWS", "WIDTH"))
    parser.add_argument("--memory", nargs=2, type=int, default=(1_000, 100_000), metavar=("FEW", "MANY"),
                        help="numbers of photos between which memory must not grow")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--out", type=Path,
                        help="also write the JSON object to this file; with --only, its other parts stay")  # fmt: skip
    options = parser.parse_args(arguments)

    given = sys.argv[1:] if arguments is None else arguments
    parts = [part for part in PARTS if part in (options.only or PARTS)]
    about: dict[str, Any] = {
        "benchmark": "correspondence",
        "command": shlex.join(["python", "-m", "benchmarks.correspondence", *given]),
        "machine": machine(_PACKAGES),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    measured = {"command": about["command"]} | {name: about["machine"][name] for name in ("date", "load_before")}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        setup = Setup(
            data=Data.find(options.data, Path(folder)), work=Path(folder), device=resolve_device(options.device),
            photos=options.photos, rounds=options.rounds, quick=options.quick,
            knn=_QUICK_KNN if options.quick else tuple(options.knn),
            memory=_QUICK_MEMORY if options.quick else tuple(options.memory),
            workers=available_cores(), started=time.monotonic(),
        )  # fmt: skip
        about["photos"] = setup.data.source
        found = _measured_before(options.out) if options.only else {}
        for part in parts:
            found[part] = measure(part, setup) | {"measured": measured}
            report = headlines(found) | about | found | {"seconds": round(time.monotonic() - setup.started)}
            if options.out:  # after each part, so that an interruption loses one
                options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report, found))
    print(json.dumps(report))


def _measured_before(path: Path | None) -> dict[str, Any]:
    """The parts in the report at `path`, so that one of them can be measured again."""
    report = json.loads(path.read_text()) if path is not None and path.exists() else {}
    return {part: report[part] for part in PARTS if part in report}


def measure(part: str, setup: Setup) -> dict[str, Any]:
    """The figures of a part."""
    module = importlib.import_module(f"benchmarks.correspondence.{part}")
    setup.say(f"{part} ...")
    return {"about": " ".join((module.__doc__ or "").split())} | module.measure(setup)


def headlines(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that matter of all parts; None for one that was not measured."""
    figures: dict[str, Any] = dict.fromkeys(HEADLINES)
    for part in found.values():
        figures |= part["headline"]
    return figures


def table(report: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """For people: what matters, then seconds and ratios, median (5th .. 95th percentile)."""
    lines = ["", "what matters"]
    for name in headlines(found):
        value = report[name]
        lines.append(f"  {name:<40}{'not measured' if value is None else f'{value:.4g}'}")
    for part, figures in found.items():
        for name, case in _timings(part, figures):
            lines += ["", f"{name}: milliseconds each, and how many times as fast"]
            for way, seconds in case["seconds"].items():
                times = case["times_as_fast"].get(way)
                lines.append(f"  {way:<20}{_figure(seconds, 1000):<34}{_figure(times) if times else ''}".rstrip())
    return "\n".join(lines[1:])


def _timings(name: str, figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """All timings in the figures of a part, with a name."""
    found = [(name, figures)] if "times_as_fast" in figures else []
    for key, value in figures.items():
        if isinstance(value, Mapping):
            found += _timings(f"{name} {key}", value)
    return found


def _figure(figures: Mapping[str, float], factor: float = 1.0) -> str:
    median, low, high = (f"{factor * figures[key]:.3g}" for key in ("median", "p5", "p95"))
    return f"{median} ({low} .. {high})"


if __name__ == "__main__":
    main()
