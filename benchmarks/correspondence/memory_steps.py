"""One step on a made-up data set, in this process: `python -m benchmarks.correspondence.memory_steps STEP COUNT DIR`.

What a step needs lies in DIR, in folders of the steps' names, and what it makes goes there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stages import retrieval
from stages.config.correspondence import Correspondence, Masks, Regions, Retrieval, RoiFeatures
from stages.correspondence import masks, pairs, regions, roi_features
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.exchange import neighbors as import_neighbors
from stages.exchange import regions as import_regions
from stages.exchange.export import CORRESPONDENCE_FILE, PROPOSALS_FILE, export
from stages.learning.encoder import random_encoder, save_encoder
from stages.report import Report
from stages.shards import LocalEngine

_PICTURES, _SIZE = 8, (64, 48)
_NEIGHBORS = 3
_FILTERS = {"min_side": 16, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 4}


def _catalog(folder: Path, count: int) -> None:
    """A catalog of `count` photos, links to eight files, and a small encoder."""
    rng = np.random.default_rng(0)
    root = folder / "photos"
    (root / "all").mkdir(parents=True)
    pictures = [folder / f"{number}.jpg" for number in range(_PICTURES)]
    for path in pictures:
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        small.resize(_SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
    for image in range(count):
        (root / "all" / f"{image:012d}.jpg").symlink_to(pictures[image % _PICTURES])
    indexing.run(
        out=folder / "catalog", report=Report(), format="folder", root=root, min_side=32, max_rejected=0.0, workers=1
    )  # fmt: skip
    (folder / "encoder").mkdir()
    encoder = random_encoder(0, backbone="test_resnet", projector_hidden=32, projector_out=16)
    save_encoder(encoder, folder / "encoder")


def _data(folder: Path) -> dict[str, Any]:
    return {"report": Report(), "catalog": folder / "catalog", "root": folder / "photos"}


def _given(folder: Path, *, engine: bool) -> dict[str, Any]:
    given = _data(folder) | {"device": "cpu", "workers": 1}
    return given | ({"engine": LocalEngine(1)} if engine else {})


def _regions(folder: Path) -> None:
    filters = Regions().model_dump(include={"max_side", "max_pixels", "min_saliency"}) | _FILTERS
    regions.run(
        out=folder / "regions", **_given(folder, engine=True), proposals="grid",
        options={"cells": (1, 2, 3)}, encoder=None, seed=0, **filters,
    )  # fmt: skip


def _masks(folder: Path) -> None:
    chosen = Masks(method="felzenszwalb")
    assert chosen.chosen is not None
    masks.run(
        out=folder / "masks", **_given(folder, engine=True), method="felzenszwalb",
        options=chosen.chosen.model_dump() | {"scales": (50,)},
    )  # fmt: skip


def _retrieval(folder: Path) -> None:
    # Compiling, which pays from some thousands of photos on, would take its memory at one of the two counts alone.
    settings = Retrieval(neighbors=_NEIGHBORS, resize=32, crop=32, batch_size=64, compile=False).all_fields()
    retrieval.run(out=folder / "retrieval", **_given(folder, engine=False), encoder=folder / "encoder", **settings)


def _roi_features(folder: Path) -> None:
    settings = RoiFeatures(size=32, batch_size=64, compile=False).all_fields()
    roi_features.run(
        out=folder / "roi_features", **_given(folder, engine=True), encoder=folder / "encoder",
        regions=folder / "regions", **settings,
    )  # fmt: skip


def _correspondence(folder: Path) -> None:
    made: dict[str, Any] = {name: folder / name for name in ("retrieval", "regions", "roi_features")}
    pairs.run(
        out=folder / "correspondence", **_given(folder, engine=False), **made,
        **Correspondence(gallery_images=4).result_fields(),
    )  # fmt: skip


def _export(folder: Path) -> None:
    made = {name: folder / name for name in ("retrieval", "regions", "correspondence")}
    photos = Catalog(folder / "catalog", folder / "photos")
    export(folder / "export", photos=photos, **made, **_FILTERS, fraction=0.1)  # type: ignore[arg-type]


def _import_neighbors(folder: Path) -> None:
    file = folder / "export" / f"{_NEIGHBORS}nn_instance.json"
    import_neighbors.run(out=folder / "import_neighbors", **_data(folder), file=file, neighbors=_NEIGHBORS)


def _import_regions(folder: Path) -> None:
    file, order = (folder / "export" / name for name in (PROPOSALS_FILE, CORRESPONDENCE_FILE))
    import_regions.run(out=folder / "import_regions", **_data(folder), file=file, order=order, filters=_FILTERS)


STEPS: dict[str, Callable[[Path], None]] = {
    "regions": _regions,
    "masks": _masks,
    "retrieval": _retrieval,
    "roi_features": _roi_features,
    "correspondence": _correspondence,
    "export": _export,
    "import_neighbors": _import_neighbors,
    "import_regions": _import_regions,
}
CATALOG = "catalog"


def main() -> None:
    step, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    (folder / step).mkdir()
    if step == CATALOG:
        _catalog(folder, count)
    else:
        STEPS[step](folder)


if __name__ == "__main__":
    main()
