"""What do object-level objectives cost beside the image-level ones that they start from?

    python -m benchmarks.objectives [--images DIR] [--device cpu|cuda] [--parts steps views] [--quick] [--out FILE]

(a) `steps`: time of a step of DetCon_S beside SimCLR, of DetCon_B and ORL beside BYOL, with the data left out.
(b) `views`: samples that one core makes for BYOL, DetCon and ORL from 640 x 480 JPEGs, also beside torchvision on PIL.

All ways of a part run in turn, round by round. Figures are medians over the rounds, with 5th and 95th percentiles;
ratios are taken within a round. Prints a table, and as its last line one JSON object. `steps` needs no photos, neither
Prefect nor FAISS nor lightly: it runs on a machine that has a GPU and not much else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from stages.learning.devices import resolve_device

PARTS = ("steps", "views")
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "numba")
_ROUNDS, _QUICK_ROUNDS = 9, 2
_PHOTOS, _QUICK_PHOTOS = 48, 3
_NOT_MEASURED = "not measured: it was not asked for"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photos for (b); default: COCO or the demo's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of (a)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: both")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"repetitions of each timing ({_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="few photos, rounds and a toy network: does it work?")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    options = parser.parse_args(arguments)

    given = sys.argv[1:] if arguments is None else arguments
    parts, rounds = options.parts or list(PARTS), _QUICK_ROUNDS if options.quick else options.rounds
    about = {
        "benchmark": "objectives",
        "command": shlex.join(["python", "-m", "benchmarks.objectives", *given]),
        "machine": machine(_PACKAGES),
    }
    found: dict[str, Any] = {}
    # Imported where they are asked for: what one part needs, the machine of the other may lack.
    modules = {part: importlib.import_module(f"benchmarks.objectives.{part}") for part in parts}
    if "steps" in parts:
        device = resolve_device(options.device)
        cases = modules["steps"].QUICK_CASES if options.quick else modules["steps"].CASES[device.type]
        found["steps"] = modules["steps"].measure(cases, device, rounds)
    if "views" in parts:
        from benchmarks.objectives.photos import make_object_photos

        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            photos = make_object_photos(Path(folder), options.images, _QUICK_PHOTOS if options.quick else _PHOTOS)
            found["photos"] = photos.photos.figures()
            found["views"] = modules["views"].measure(photos, rounds)
    report = headlines(found) | about | dict.fromkeys(PARTS, _NOT_MEASURED) | found
    report["threads"] = torch.get_num_threads()
    report["about"] = {part: " ".join((modules[part].__doc__ or "").split()) for part in parts}
    print(table(found))
    print(json.dumps(report))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


def headlines(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of the last case, which is the papers': `METHOD_over_BASE`, a step as times that of the base, and `..._limit`; of
    the views `METHOD_views_per_sample` and `..._per_pixel` as times BYOL's, and `..._vs_torchvision_pil`, how many
    times as fast."""
    figures: dict[str, Any] = {}
    for case in list(found.get("steps", {}).values())[-1:]:
        for pair, each in case["compared"].items():
            name = pair.replace(" ", "_")
            figures |= {name: each["times"]["median"], f"{name}_limit": each["limit"]}
    for name, case in _objectives(found):
        ours = case["ours"]
        figures |= {f"{name}_views_{figure}": ours[figure]["median"] for figure in ("per_sample", "per_pixel")}
        figures[f"{name}_views_vs_torchvision_pil"] = ours["times_as_fast"]["median"]
    return figures


def table(found: Mapping[str, Any]) -> str:
    """All figures for people: median (5th .. 95th percentile)."""
    lines = []
    for case, figures in found.get("steps", {}).items():
        lines += [f"{case}: ms of a step"]
        lines += [f"  {name:<22}{_figure(each, 1, 1000)}" for name, each in figures["seconds"].items()]
        for pair, each in figures["compared"].items():
            verdict = "holds" if each["holds"] else "MISSED"
            limit = f"at most {each['limit']:.3f}: {verdict} ({each['source']})"
            lines.append(f"  {pair:<22}{_figure(each['times'], 3)} times; {limit}")
        lines.append("")
    if "views" in found:
        lines.append(
            "views on one core: samples/s; a sample and a pixel as times BYOL's; times as fast as torchvision on PIL"
        )
    for name, case in _objectives(found):
        for side, figures in ((side, each) for side, each in case.items() if side != "pixels"):
            cells = [_figure(figures["samples_per_second"], 0), _figure(figures["per_sample"], 2),
                     _figure(figures["per_pixel"], 2)]  # fmt: skip
            cells += [_figure(figures["times_as_fast"], 2)] if "times_as_fast" in figures else []
            lines.append(f"  {name + ' ' + side:<24}" + "".join(f"{cell:<24}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def _objectives(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, case) for name, case in found.get("views", {}).items() if isinstance(case, Mapping)]


def _figure(summary: Mapping[str, float], digits: int, factor: float = 1.0) -> str:
    median, low, high = (f"{factor * summary[key]:.{digits}f}" for key in ("median", "p5", "p95"))
    return f"{median} ({low} .. {high})"


if __name__ == "__main__":
    main()
