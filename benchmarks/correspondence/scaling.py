"""What stage 3 and retrieval take on data sets of all sizes, extrapolated from what was measured.

    python -m benchmarks.correspondence.scaling [--results FILE] [--write docs/scaling.md]

Prints the constants and the table; `--write` puts them between the two marks of that file.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parents[1] / "results" / "correspondence.json"
_MARKS = "<!-- begin: python -m benchmarks.correspondence.scaling -->", "<!-- end -->"

DATA_SETS = {
    "COCO train2017": 118_287,
    "COCO+ (train2017, unlabeled2017)": 241_690,
    "OpenImages, boxed (train)": 1_743_042,
    "OpenImages, all (train)": 9_011_219,
    "100 million": 100_000_000,
}
CORES = 32  # of a workstation
MACHINES = 64
PROJECTION = 256  # width of the rows that retrieval compares

# As in stages/config/correspondence.py: exact search up to so many photos, then IVF.
_EXACT_UP_TO, _PROBES = 2_000_000, 32
_KMEANS_ROUNDS, _KMEANS_ROWS = 10, 40  # rounds, and rows a list, of FAISS's training


@dataclass(frozen=True)
class Constants:
    """Core-seconds and bytes.

    Attributes:
        search, box, pairs: of a photo: selective search; of a box: cutting and embedding; of a photo: matching.
        photo: embedding a whole photo, taken as large as a box.
        compare: comparing two rows of PROJECTION numbers.
        boxes: a photo. disk: bytes a photo of regions, features, and pairs.
        memory: bytes of a process, the largest of all steps. memory_a_photo: what a photo adds to a step's own process,
            at most; its workers hold no more for more photos.
    """

    search: float
    box: float
    pairs: float
    compare: float
    boxes: float
    disk: Mapping[str, float]
    memory: float
    memory_a_photo: float

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Constants:
        """From a report of `python -m benchmarks.correspondence`."""
        stage, knn, cores = report["stage"], report["knn"], report["machine"]["cores"]
        photos = stage["photos"]
        boxes = stage["metrics"]["regions"]["boxes"] / photos
        embedding = report["embedding"]["seconds"]["ours"]["median"] * report["threads"]
        compare = knn["seconds"]["ours"]["median"] * report["threads"] / knn["rows"] / knn["width"] * PROJECTION
        steps = report["memory"]["steps"].values()
        memory = max(value for each in steps for name, value in each.items() if name.startswith("megabytes"))
        return cls(
            search=stage["seconds_of_steps"]["regions"] * cores / photos,
            box=embedding + report["crops"]["seconds"]["ours"]["median"],
            pairs=stage["seconds_of_steps"]["correspondence"] * cores / photos,
            compare=compare, boxes=boxes, disk=stage["bytes_per_photo"], memory=1e6 * memory,
            memory_a_photo=max(0.0, *(each["bytes_per_photo"] for each in steps)),
        )  # fmt: skip

    def core_seconds(self, photos: int) -> dict[str, float]:
        """By step."""
        return {
            "retrieval": photos * self.box + photos * self.compared_rows(photos) * self.compare,
            "regions": photos * self.search,
            "roi_features": photos * self.boxes * self.box,
            "correspondence": photos * self.pairs,
        }

    @staticmethod
    def compared_rows(photos: int) -> float:
        """Rows that each photo is compared with: all, or with IVF the centres and the lists that are looked into."""
        if photos <= _EXACT_UP_TO:
            return photos
        lists = 4 * math.sqrt(photos)
        training = _KMEANS_ROUNDS * _KMEANS_ROWS * lists * lists / photos
        return 2 * lists + _PROBES * photos / lists + training  # centres: once to file a row, once to look for it


def table(constants: Constants) -> str:
    lines = [
        "| data set | photos | core-hours: retrieval | regions | roi_features | correspondence | one workstation | "
        f"{MACHINES} machines | disk | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, photos in DATA_SETS.items():
        seconds = constants.core_seconds(photos)
        total = sum(seconds.values())
        # What every process holds, and the rows that retrieval searches in, in half precision.
        disk = photos * (sum(constants.disk.values()) + 2 * PROJECTION)
        memory = CORES * constants.memory + photos * constants.memory_a_photo
        cells = [name, f"{photos:,}", *(f"{value / 3600:,.1f}" for value in seconds.values()),
                 _time(total / CORES), _time(total / CORES / MACHINES), _size(disk), _size(memory)]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def constants_table(constants: Constants, report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    rows = [
        ("selective search and filter", f"{1e3 * constants.search:.0f} core-ms a photo"),
        ("cutting and embedding, ResNet-50 at 224", f"{1e3 * constants.box:.1f} core-ms a box"),
        ("boxes", f"{constants.boxes:.1f} a photo"),
        ("matching with 10 neighbours", f"{1e3 * constants.pairs:.1f} core-ms a photo"),
        (f"comparing two rows of {PROJECTION}", f"{1e9 * constants.compare:.2f} core-ns"),
        *((f"{name} on disk", f"{size:,.0f} bytes a photo") for name, size in constants.disk.items()),
        ("memory of a process, at most", _size(constants.memory)),
        ("and of a step for each photo, at most", f"{constants.memory_a_photo:.0f} bytes"),
    ]
    lines = [
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {report['embedding']['precision']}, "
        f"{machine['date'][:10]}:",
        "",
        "| constant | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def _size(count: float) -> str:
    return next(f"{count / 1000**k:.{0 if k < 3 else 1}f} {unit}" for k, unit in ((4, "TB"), (3, "GB"), (2, "MB"))
                if count >= 1000**k or unit == "MB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=_RESULTS, help="report of the benchmark")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two marks")
    options = parser.parse_args()
    report = json.loads(options.results.read_text())
    constants = Constants.of(report)
    text = f"{constants_table(constants, report)}\n\n{table(constants)}"
    print(text)
    if options.write:
        before, _, rest = options.write.read_text().partition(_MARKS[0])
        _, mark, after = rest.partition(_MARKS[1])
        if not mark:
            raise SystemExit(f"error: {options.write} has no lines `{_MARKS[0]}` and `{_MARKS[1]}`")
        options.write.write_text(f"{before}{_MARKS[0]}\n\n{text}\n\n{_MARKS[1]}{after}")


if __name__ == "__main__":
    main()
