"""Step `scenes`: labelled scenes of several objects, drawn, lit and set into real photographs.

Sixteen classes of everyday things that differ in shape, parts and surface; a colour never tells a class. Every box and
mask is exact, because the pictures are made from them. What to know before trusting a number measured here:

* The backgrounds of `train` and `test` are different cuts of the *same* photographs, and so are the patches on
  surfaces. Objects are new in every scene.
* The photographs show things of their own, real chairs and vases among them. Those have no labels.
* Clutter (1 to 3 lumps a scene, also without labels) has the same edges, light and shadows as the objects.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.data.decode import decode
from stages.data.formats import folder
from stages.data.scenes.backgrounds import Photos
from stages.data.scenes.classes import CLASSES
from stages.data.scenes.coco import annotation, document
from stages.data.scenes.compose import compose
from stages.data.scenes.sheet import COLUMNS, ROWS, contact_sheet
from stages.process import ordered_map, pool
from stages.report import Report

SPLITS = ("train", "test")
MIN_SIDE = 64
_CHUNK = 16  # scenes a task


def run(
    *, out: Path, report: Report, photos: Path, train_images: int, test_images: int, side: int, seed: int, workers: int
) -> None:
    """Writes `train/000000.jpg` ..., `test/...`, `instances_train.json`, `instances_test.json`, `contact_sheet.png`.

    The JSON files are COCO instances; masks are uncompressed run lengths of the visible pixels. Scene i of a split
    depends on (`seed`, split, i), `side` and the photographs alone, so any number of workers writes the same bytes.

    Args:
        photos: folder with photographs (searched with its subfolders) for backgrounds and surfaces.
        side: height and width of a scene in pixels, at least 64.

    Raises:
        ValueError: `side` is too small or `photos` holds no photograph.
    """
    if side < MIN_SIDE:
        raise ValueError(f"side={side} leaves no pixels for small objects: it must be at least {MIN_SIDE}.")
    paths = tuple(photos / path for path in folder.read(photos).paths)
    if not paths:
        raise ValueError(
            f"photos={photos} holds no photograph, and scenes are set into photographs: pass a folder of some."
        )
    counts = dict(zip(SPLITS, (train_images, test_images), strict=True))
    chunks = [
        (split, range(start, min(start + _CHUNK, count)))
        for split, count in counts.items()
        for start in range(0, count, _CHUNK)
    ]
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
    write = partial(_write_chunk, out, Photos(paths, side), seed)
    labels: dict[str, list[list[dict[str, Any]]]] = {split: [] for split in SPLITS}
    with pool(workers) as processes:
        results = ordered_map(processes, write, chunks, window=4 * max(1, workers))
        for (split, _), result in zip(chunks, results, strict=True):
            labels[split] += result
            report.progress(sum(map(len, labels.values())), train_images + test_images, "scenes")
    for split in SPLITS:
        text = json.dumps(document(labels[split], side), separators=(",", ":"))
        (out / f"instances_{split}.json").write_text(text, encoding="utf-8")
    shown = min(test_images, COLUMNS * ROWS)
    pictures = [np.asarray(decode(out / "test" / f"{number:06d}.jpg")) for number in range(shown)]
    contact_sheet(pictures, labels["test"][:shown]).save(out / "contact_sheet.png")
    found = Counter(CLASSES[label["category_id"] - 1] for split in SPLITS for image in labels[split] for label in image)
    report.metric(objects=found.total(), objects_of_class={name: found[name] for name in CLASSES})


def _write_chunk(out: Path, photos: Photos, seed: int, chunk: tuple[str, range]) -> list[list[dict[str, Any]]]:
    """Draws and writes the scenes of `chunk` = (split, numbers); returns the annotations of each."""
    split, numbers = chunk
    labels = []
    for number in numbers:
        scene = compose(photos, np.random.default_rng([seed, SPLITS.index(split), number]))
        _, file = cv2.imencode(".jpg", scene.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
        (out / split / f"{number:06d}.jpg").write_bytes(file.tobytes())
        labels.append([annotation(thing, photos.side) for thing in scene.placed if thing.label is not None])
    return labels
