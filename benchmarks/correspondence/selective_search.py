"""Selective search on 640 x 480 photos, one core: ours against OpenCV's fast mode, and what is lost.

`overlap`: the mean best overlap of OpenCV's boxes that pass ORL's filter with all of ours. `reencoded` is OpenCV on the
same photos as JPEGs of quality 90: what the method does to itself. `recall` is of VOC's objects, on photos as they are.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.correspondence.official import opencv_boxes
from benchmarks.correspondence.part import FILTER, Setup, best_overlaps, median, timed
from stages.correspondence.box_quality import LEAST_OVERLAP
from stages.correspondence.box_quality import best_overlaps as overlaps_by_count
from stages.correspondence.filter import filter_boxes
from stages.correspondence.proposals import selective_search
from stages.data.catalog import Catalog
from stages.process import ordered_map, pool

Search = Callable[[np.ndarray], np.ndarray]

VARIANTS = ("default", "exact", "light")
_COUNTS = ("100", "500", "all")


def measure(setup: Setup) -> dict[str, Any]:
    photos = setup.data.standard_photos(setup.pick(24, 2))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        figures = _speed(setup, photos) | {"boxes": _fidelity(setup, photos)}
    finally:
        cv2.setNumThreads(threads)
    headline = {"selective_search_vs_opencv": median(figures, "default")}
    headline |= {f"selective_search_{name}_vs_opencv": median(figures, name) for name in ("exact", "light")}
    headline["selective_search_overlap"] = figures["boxes"]["default"]["overlap"]
    headline |= {f"selective_search_{name}_overlap": figures["boxes"][name]["overlap"] for name in ("exact", "light")}
    headline["selective_search_exact_identical"] = figures["boxes"]["exact"]["identical"]
    if setup.data.voc is None:
        figures["recall"] = "not measured: the photos have no labels; give --data VOCdevkit/VOC2007"
    else:
        figures["recall"] = _recall(setup)
        for name in VARIANTS:
            key = "selective_search_recall_delta" if name == "default" else f"selective_search_{name}_recall_delta"
            headline[key] = min(figures["recall"]["differences"][name].values())
    return figures | {"headline": headline}


def algorithms() -> dict[str, Search]:
    """OpenCV, and our variants; each gives the boxes of a photo, best first."""

    def ours(variant: str) -> Search:
        propose = selective_search.make(mode="fast", variant=variant)
        # The order is drawn from a generator that the step seeds by the photo's content.
        return lambda photo: propose(photo, 0, np.random.default_rng(zlib.crc32(photo.tobytes())))[0]

    return {"opencv": opencv_boxes} | {variant: ours(variant) for variant in VARIANTS}


def _speed(setup: Setup, photos: Sequence[np.ndarray]) -> dict[str, Any]:
    ways = {name: functools.partial(_search_all, search, photos, setup, name) for name, search in algorithms().items()}
    for search in algorithms().values():  # compiles, so that no round needs to be thrown away
        search(photos[0])
    rounds = min(setup.rounds, setup.pick(3, 1))  # OpenCV takes half a minute a round
    return {"photos": len(photos)} | timed(ways, rounds, "opencv", len(photos), warmup=0)


def _search_all(search: Search, photos: Sequence[np.ndarray], setup: Setup, name: str) -> None:
    for photo in photos:
        search(photo)
    if name == "opencv":
        setup.say(f"selective search: a round of OpenCV on {len(photos)} photos")


def _fidelity(setup: Setup, photos: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """For each variant, and for OpenCV on re-encoded photos: boxes a photo, overlap, share of identical boxes."""
    known = algorithms()
    reference = [opencv_boxes(photo) for photo in photos]
    figures = {"opencv": {"boxes_per_photo": float(np.mean([len(boxes) for boxes in reference]))}}
    ways = {name: (known[name], photos) for name in VARIANTS}
    ways["reencoded"] = opencv_boxes, [_reencoded(photo) for photo in photos]
    for name, (search, seen) in ways.items():
        overlaps, identical, counts = [], [], []
        for photo, boxes in zip(seen, reference, strict=True):
            found = search(photo)
            kept = boxes[filter_boxes(boxes, **FILTER)]
            if len(kept):
                overlaps.append(best_overlaps(kept, found))
            same = set(map(tuple, boxes.tolist())) & set(map(tuple, found.tolist()))
            identical.append(len(same) / len(boxes))
            counts.append(len(found))
        figures[name] = {
            "boxes_per_photo": float(np.mean(counts)),
            "overlap": float(np.concatenate(overlaps).mean()),
            "identical": float(np.mean(identical)),
        }
    setup.say("selective search: overlap with OpenCV's boxes")
    return figures


def _reencoded(photo: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=90)
    return np.asarray(Image.open(file))


def _recall(setup: Setup) -> dict[str, Any]:
    """Of VOC's objects: recall and average best overlap at 100, 500 and all boxes, and their differences."""
    catalog = setup.data.labelled()
    images = np.linspace(0, len(catalog) - 1, min(len(catalog), setup.pick(300, 4))).round().astype(int).tolist()
    names = ("opencv", *VARIANTS)
    overlaps: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with pool(setup.workers) as processes:
        work = functools.partial(_photo_overlaps, catalog, names)
        for number, found in enumerate(ordered_map(processes, work, images, window=4 * setup.workers), start=1):
            for name, rows in zip(names, found, strict=True):
                overlaps[name].append(rows)
            if number % 100 == 0:
                setup.say(f"selective search: recall on {number} of {len(images)} photos")
    best = {name: np.concatenate(each) for name, each in overlaps.items()}
    measures = {
        name: {f"recall_{count}": (rows[:, k] >= LEAST_OVERLAP).astype(float) for k, count in enumerate(_COUNTS)}
        | {f"abo_{count}": rows[:, k] for k, count in enumerate(_COUNTS)}
        for name, rows in best.items()
    }
    differences = {
        name: {key: values - measures["opencv"][key] for key, values in measures[name].items()} for name in VARIANTS
    }
    return {
        "photos": len(images),
        "objects": len(best["opencv"]),
        "values": {
            name: {key: float(values.mean()) for key, values in each.items()} for name, each in measures.items()
        },
        "differences": {
            name: {key: float(values.mean()) for key, values in each.items()} for name, each in differences.items()
        },
        "standard_errors": {
            name: {key: float(values.std() / len(values) ** 0.5) for key, values in each.items()}
            for name, each in differences.items()
        },
    }


def _photo_overlaps(catalog: Catalog, names: Sequence[str], image: int) -> list[np.ndarray]:
    """(objects, 3) for each algorithm: the best overlap of each clear object with the first 100, 500 and all boxes."""
    cv2.setNumThreads(1)
    labels = catalog.labels_of(image, image + 1)
    objects = labels[~labels["difficult"] & ~labels["crowd"]][["x0", "y0", "x1", "y1"]].to_numpy(float)
    photo = np.asarray(catalog.decode(image))
    known = algorithms()
    return [overlaps_by_count(objects, known[name](photo)) for name in names]
