"""Does the demo learn something? The whole pipeline in several seeds, each beside the random backbone of that seed.

    python -m benchmarks.demo_learning [--seeds 0 1 2] [--keep]

The figure is the *view rank* on 200 labelled scenes that no training saw (docs/demo.md says why). The others stand
beside it as they come out. A seed changes the weights, the views, the order of the photos and of the proposals, the
random backbone and the views that are measured; the scenes stay. Prints a table, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from stages.store import open_artifact

CHOSEN = ("view_retrieval", "rank")
BESIDE = (
    ("view_retrieval", "top1"),
    ("linear_svm", "map"),
    ("object_neighbors", "micro"),
    ("spread", "effective_rank"),
)
ENCODERS = ("random", "image_pretraining", "object_pretraining")
WORK = Path("build/demo_learning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="also write the JSON object to this file")
    options = parser.parse_args()
    runs = {seed: run(seed) for seed in options.seeds}
    report = summarise(runs)
    print(table(runs, report))
    print(json.dumps(report))
    if options.keep:
        options.keep.write_text(json.dumps(report, indent=2) + "\n")


def run(seed: int) -> dict[str, Any]:
    """One demo. Returns its figures by (protocol, figure), then by encoder, and the seconds it took."""
    environment = {**os.environ, "ORL_ARTIFACTS": str(WORK.absolute())}
    started = time.monotonic()
    orl = Path(sys.executable).with_name("orl")
    subprocess.run([orl, "run", "demo", "--set", f"run.seed={seed}"], env=environment, check=True, stdout=sys.stderr)
    rows = json.loads(open_artifact("evaluation", "demo", WORK).file("results.json").read_text())
    figures: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        figures.setdefault((row["protocol"], row["figure"]), {})[row["encoder"]] = row["value"]
    return {"figures": figures, "seconds": time.monotonic() - started}


def summarise(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    figures = {}
    for figure in (CHOSEN, *BESIDE):
        values = {name: [made["figures"][figure][name] for made in runs.values()] for name in ENCODERS}
        gains = {
            name: [trained - untrained for trained, untrained in zip(values[name], values["random"], strict=True)]
            for name in ENCODERS[1:]
        }
        figures[" ".join(figure)] = {
            "values": values,
            "mean": {name: mean(each) for name, each in values.items()},
            "stdev": {name: stdev(each) if len(each) > 1 else 0.0 for name, each in values.items()},
            "seeds_above_random": {name: sum(gain > 0 for gain in each) for name, each in gains.items()},
        }
    return {
        "benchmark": "demo_learning",
        "seeds": list(runs),
        "chosen": " ".join(CHOSEN),
        "figures": figures,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def table(runs: dict[int, dict[str, Any]], report: dict[str, Any]) -> str:
    lines = [f"{'figure':<28} {'encoder':<20} {'mean':>8} {'stdev':>8}  above random in"]
    for figure, each in report["figures"].items():
        for name in ENCODERS:
            above = "" if name == "random" else f"{each['seeds_above_random'][name]} of {len(runs)} seeds"
            lines.append(f"{figure:<28} {name:<20} {each['mean'][name]:>8.4f} {each['stdev'][name]:>8.4f}  {above}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
