"""The photos that views are drawn of, with boxes, pairs and masks as the steps of the pipeline leave them.

Boxes and pairs are random ones that pass ORL's filter: to draw from them costs the same as from searched ones. Masks
are Felzenszwalb's at DetCon's three scales, because what they cost depends on how they look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training.photos import Photos, make_photos
from stages.correspondence import masks, regions
from stages.data.catalog import Catalog
from stages.process import available_cores
from stages.report import Report
from stages.shards import LocalEngine

_FILTER: dict[str, Any] = {"min_side": 96, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 100}  # ORL, footnote 2
_SCALES = [500, 1000, 1500]  # DetCon, section 3.2
_NEIGHBORS, _PAIRS = 10, 3


@dataclass(frozen=True)
class ObjectPhotos:
    """Directories as the steps `regions`, `correspondence` and `masks` make them."""

    photos: Photos
    regions: Path
    correspondence: Path
    masks: Path

    @property
    def catalog(self) -> Catalog:
        return self.photos.catalog


def make_object_photos(out: Path, folder: Path | None, count: int) -> ObjectPhotos:
    """Writes up to `count` photos of `folder`, see `make_photos`, and what belongs to them, into `out`."""
    photos = make_photos(out, folder, count)
    made = ObjectPhotos(photos, out / "regions", out / "correspondence", out / "masks")
    for place in (made.regions, made.correspondence, made.masks):
        place.mkdir()
    workers = available_cores()
    places: dict[str, Any] = {"catalog": out / "catalog", "root": out / "photos", "device": "cpu", "workers": workers}
    options = {"count": 100, "scale": (0.05, 0.5), "ratio": (0.5, 2.0)}
    regions.run(
        out=made.regions, report=Report(), proposals="random", options=options, encoder=None, max_side=None,
        max_pixels=4_000_000, min_saliency=None, seed=0, engine=LocalEngine(workers), **_FILTER, **places,
    )  # fmt: skip
    _write_pairs(made.regions, made.correspondence, len(photos.catalog))
    felzenszwalb = {"scales": _SCALES, "sigma": 0.8, "min_size": None, "max_pixels": 4_000_000}
    masks.run(
        out=made.masks, report=Report(), method="felzenszwalb", options=felzenszwalb, engine=LocalEngine(workers),
        **places,
    )  # fmt: skip
    return made


def _write_pairs(boxes: Path, out: Path, photos: int) -> None:
    """A photo's neighbours are those that follow it; of each there are a few random pairs."""
    counts = np.diff(np.load(boxes / "starts.npy"))
    neighbors = min(_NEIGHBORS, photos - 1)
    of = (np.arange(photos)[:, None] + 1 + np.arange(neighbors)) % photos  # (N, K)
    rng = np.random.default_rng(0)
    shape = photos, neighbors, _PAIRS
    owners = np.arange(photos)[:, None, None], of[..., None]
    rois = np.stack([rng.integers(np.broadcast_to(counts[owner], shape)) for owner in owners], -1)  # (N, K, pairs, 2)
    np.save(out / "pair_neighbors.npy", of.astype(np.int32))
    np.save(out / "pair_starts.npy", np.arange(photos * neighbors + 1, dtype=np.int64) * _PAIRS)
    np.save(out / "pair_rois.npy", rois.reshape(-1, 2).astype(np.int16))
