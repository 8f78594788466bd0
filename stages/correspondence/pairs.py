"""Step `correspondence`: which box of a photo corresponds to which of its neighbours', and pictures of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from stages.correspondence.best_pairs import Rule
from stages.correspondence.gallery import write_gallery
from stages.correspondence.pair_figures import PairFigures
from stages.correspondence.pair_quality import PairQuality, write_classes
from stages.correspondence.pair_shards import MinedPairs, Sources, mine_shard
from stages.correspondence.pair_table import PairsWriter
from stages.correspondence.preview import write_preview
from stages.data.boxes import BOXES_FILE, Boxes
from stages.data.catalog import Catalog, Roots
from stages.data.rows import forget
from stages.learning.devices import resolve_device
from stages.report import Report
from stages.shards import LocalEngine, cut, make_shards


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    retrieval: Path,
    regions: Path,
    roi_features: Path,
    fraction: float,
    fraction_of: Literal["query_boxes", "matrix"],
    mutual: bool,
    unique: bool,
    min_similarity: float | None,
    gallery_images: int,
    device: str,
    workers: int,
) -> None:
    """Pairs the boxes of each photo with those of each of its neighbours by cosine similarity.

    Writes `pairs.parquet` and the arrays that training reads (see `PairsWriter`), `gallery.html` and `preview.png`.
    A photo that `min_similarity` leaves without any pair keeps its single best one, as training draws a pair of every
    photo; `best_pair_only_images` counts them. Where the photos have labels, the metrics also say how many pairs are
    right (see `stages.correspondence.pair_quality`).

    Works in shards, so that an interrupted run goes on. Memory does not grow with the number of photos, but for 4 bytes
    a photo.

    Args:
        retrieval, regions, roi_features: directories of those artifacts, made from the same catalog.
        fraction, fraction_of, mutual, unique, min_similarity: which pairs, see `Rule`.
        gallery_images: photos shown in the gallery.

    Raises:
        ValueError: the artifacts do not fit each other.
    """
    photos = Catalog(catalog, root)
    sources = Sources(retrieval, regions, roi_features, len(photos))
    neighbors = sources.check()
    rule = Rule(fraction, fraction_of, mutual, unique, min_similarity)
    shards = cut(len(photos), out / "scratch" / "pairs", ".npz")
    where = str(resolve_device(device))
    make = partial(mine_shard, sources, rule, where, sources.lost_to_rounding(where))
    make_shards(make, shards, LocalEngine(workers), report)

    boxes, figures, quality = Boxes(regions), PairFigures(), None
    if photos.has_labels:
        classes = write_classes(photos, boxes, out / "scratch" / "classes.npy")
        quality = PairQuality(classes, boxes.starts)
    with PairsWriter(out, boxes, neighbors) as writer:
        for shard in shards:
            mined = MinedPairs.load(shard.path)
            writer.append(mined.neighbors, mined.counts, mined.rois, mined.similarity)
            figures.add(mined)
            if quality is not None:
                quality.add(shard.first, mined)
            forget(boxes.corners)

    metrics = figures.metrics() | {"fallback_share": _fallbacks(regions) / len(photos)}
    if quality is not None:
        metrics |= quality.metrics()
    report.metric(**metrics)
    settings: dict[str, Any] = {
        "neighbors": neighbors,
        "fraction": fraction,
        "fraction_of": fraction_of,
        "mutual": mutual,
    }
    settings |= {"unique": unique, "min_similarity": min_similarity, "gallery_images": gallery_images}
    likeness = np.concatenate(figures.likeness)
    write_gallery(out, photos, retrieval, likeness, settings=settings, metrics=metrics, count=gallery_images)
    write_preview(out, photos, retrieval, likeness)


def _fallbacks(regions: Path) -> int:
    """Photos whose whole area stands in for boxes: these have no score."""
    with pq.ParquetFile(regions / BOXES_FILE) as file:
        batches = file.iter_batches(columns=["score"])
        return sum(int(np.isnan(batch["score"].to_numpy(zero_copy_only=False)).sum()) for batch in batches)
