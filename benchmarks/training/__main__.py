"""How fast is training, beside what others offer?

    python -m benchmarks.training [--images DIR] [--device cpu|cuda] [--quick] [--out FILE]

(a) `views`: views a second that one core makes of 640 x 480 JPEGs, beside torchvision on PIL, its v2, and lightly.
(b) `steps`: time of a step of BYOL and SimCLR beside lightly's parts, with the data left out.
(c) `end_to_end`: photos a second of a whole training against its step alone. By default measured on a GPU only.

All ways of (a) and (b) run in turn, round by round. Figures are medians over the rounds, with 5th and 95th percentiles;
ratios are taken within a round, above 1 where ours is faster. Prints a table, and as its last line one JSON object;
`NAME_vs_PEER` in it are the medians of the case where ours does worst.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.training import end_to_end, steps, views
from benchmarks.training.photos import make_photos
from stages.learning.devices import resolve_device
from stages.process import available_cores

PARTS = {"views": views, "steps": steps, "end_to_end": end_to_end}
_NOT_MEASURED = "not measured: it was not asked for, or needs --device cuda"
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightly",
    "pillow",
    "simplejpeg",
    "opencv-contrib-python-headless",
    "numba",
)
_PHOTOS, _ROUNDS = 48, 9
_QUICK_PHOTOS, _QUICK_ROUNDS = 2, 2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, help="folder of photos to make the JPEGs of; default: COCO or the demo's"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of (b) and (c)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all on cuda, views and steps on cpu")
    parser.add_argument(
        "--workers", type=int, default=available_cores(), help="data workers of (c); default: one a core"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few photos, rounds and toy networks: does it work at all?"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    options = parser.parse_args(arguments)

    given = sys.argv[1:] if arguments is None else arguments
    report = {
        "benchmark": "training",
        "command": shlex.join(["python", "-m", "benchmarks.training", *given]),
        "machine": machine(_PACKAGES),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    parts = options.parts or [part for part in PARTS if part != "end_to_end" or options.device == "cuda"]
    found = measure(parts, options.images, resolve_device(options.device), options.workers, quick=options.quick)
    report |= dict.fromkeys(PARTS, _NOT_MEASURED) | found | headlines(found)
    report["about"] = {part: " ".join((PARTS[part].__doc__ or "").split()) for part in parts}
    report["outputs"] = views.WAYS
    print(table(found))
    print(json.dumps(report))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


def measure(
    parts: Sequence[str], images: Path | None, device: torch.device, workers: int, *, quick: bool
) -> dict[str, Any]:
    """The figures of each part."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        work = Path(folder)
        if "views" in parts or "end_to_end" in parts:
            photos = make_photos(work, images, _QUICK_PHOTOS if quick else _PHOTOS)
            found["photos"] = photos.figures()
        if "views" in parts:
            found["views"] = views.measure(photos, _QUICK_ROUNDS if quick else _ROUNDS)
        if "steps" in parts:
            cases = steps.QUICK_CASES if quick else steps.CASES[device.type]
            found["steps"] = steps.measure(cases, device, _QUICK_ROUNDS if quick else _ROUNDS)
        if "end_to_end" in parts:
            trainings = work / "trainings"
            trainings.mkdir()
            cases, length = end_to_end.CASES, end_to_end.LENGTH
            if quick:
                cases, length = end_to_end.QUICK_CASES, end_to_end.QUICK_LENGTH
            found["end_to_end"] = end_to_end.measure(photos, trainings, cases, length, device, workers)
    return found


def headlines(found: Mapping[str, Any]) -> dict[str, float]:
    """The median of the case where ours does worst: `views_vs_PEER`, `views_WAY_vs_PEER`, `step_vs_PEER_METHOD`."""
    worst: dict[str, float] = {}
    for part in ("views", "steps"):
        for case, figures in found.get(part, {}).items():
            for pair, times in figures["times_as_fast"].items():
                ours, _, peer = pair.partition(" vs ")
                if part == "views":
                    name = f"views{ours.removeprefix('ours')}_vs_{peer}"
                else:
                    name = f"step_vs_{peer}_{case.partition(' ')[0]}"
                worst[name] = min(times["median"], worst.get(name, times["median"]))
    return worst


def table(found: Mapping[str, Any]) -> str:
    """All figures for people: median (5th .. 95th percentile)."""
    lines = []
    for case, figures in found.get("views", {}).items():
        lines += ["", f"{case} views: views/s on one core, and how many times torchvision on PIL"]
        speeds = figures["views_per_second"]
        base = speeds["torchvision_pil"]["median"]
        lines += [
            f"  {name:<24}{_figure(speed, 0):<26}{speed['median'] / base:>6.2f}   {views.WAYS[name]}"
            for name, speed in speeds.items()
        ]
    if "steps" in found:
        lines += ["", "time of a step: ms, and how many times as fast ours is"]
    for case, figures in found.get("steps", {}).items():
        lines.append(f"  {case}")
        for name, seconds in figures["seconds"].items():
            times = figures["times_as_fast"].get(f"ours vs {name}")
            milliseconds = {key: 1000 * value for key, value in seconds.items()}
            lines.append(f"    {name:<22}{_figure(milliseconds, 1):<26}{_figure(times, 2) if times else ''}")
    if "end_to_end" in found:
        lines += ["", "whole training: photos/s, share of the speed of its step alone, share of time waiting for data"]
    for case, figures in found.get("end_to_end", {}).items():
        lines.append(f"  {case}{': ' + figures['failed'] if 'failed' in figures else ''}")
        if "step" in figures:
            lines.append(f"    {'step alone':<22}{_figure(figures['step'], 1)}")
        for name in (renderer for renderer in end_to_end.RENDERERS if renderer in figures):
            shown = (_figure(figures[name][key], 3) for key in ("of_step", "data_share"))
            lines.append(f"    {name:<22}{_figure(figures[name]['images_per_second'], 1):<26}{'  '.join(shown)}")
    return "\n".join(line.rstrip() for line in lines[1:])


def _figure(summary: Mapping[str, float], digits: int) -> str:
    median, low, high = (f"{summary[key]:.{digits}f}" for key in ("median", "p5", "p95"))
    return f"{median} ({low} .. {high})"


if __name__ == "__main__":
    main()
