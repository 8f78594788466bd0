"""Step `correspondence`: which box of a photo corresponds to which of its neighbours', and pictures of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from stages.correspondence.gallery import write_gallery
from stages.correspondence.preview import write_preview
from stages.data.catalog import Catalog
from stages.report import Report

PAIRS_FILE = "pairs.parquet"

_CORNERS = ["x0", "y0", "x1", "y1"]
_SCHEMA = pa.schema(
    [("image", pa.int32()), ("neighbor", pa.int32()), ("rank", pa.int16()), ("pair", pa.int16())]
    + [("roi", pa.int16()), ("neighbor_roi", pa.int16()), ("similarity", pa.float32())]
    + [(name, pa.int32()) for name in [*_CORNERS, *(f"neighbor_{corner}" for corner in _CORNERS)]]
)
_ROW_GROUP = 2**16


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Path,
    retrieval: Path,
    regions: Path,
    roi_features: Path,
    fraction: float,
    gallery_images: int,
) -> None:
    """Pairs the boxes of each photo with those of each of its neighbours by cosine similarity.

    Writes `pairs.parquet` (image, neighbor int32, rank of the neighbour and pair within it int16 from 0, roi,
    neighbor_roi int16, similarity float32, and both boxes int32: x0 .. y1, neighbor_x0 .. neighbor_y1), sorted by
    image, rank and pair; `gallery.html` and `preview.png`.

    Args:
        retrieval, regions, roi_features: directories of those artifacts, made from the same catalog.
        fraction: pairs kept with each neighbour, as a share of the photo's boxes; see `most_similar`.
        gallery_images: photos shown in the gallery.

    Raises:
        ValueError: the artifacts do not fit each other.
    """
    photos = Catalog(catalog, root)
    boxes = pd.read_parquet(regions / "boxes.parquet")
    corners = boxes[_CORNERS].to_numpy(np.int32)
    features = np.load(roi_features / "features.npy", mmap_mode="r", allow_pickle=False)
    neighbors = _neighbors(retrieval / "neighbors.parquet", len(photos))
    starts = _starts(boxes["image"].to_numpy(), len(photos), len(features))

    likeness = np.empty(len(photos), np.float32)  # of a photo's pairs with its nearest neighbour, on average
    waiting: list[pa.Table] = []
    reused = 0
    with pq.ParquetWriter(out / PAIRS_FILE, _SCHEMA) as writer:
        for image, table in _pairs(neighbors, starts, corners, features, fraction):
            nearest = np.asarray(table["rank"]) == 0
            likeness[image] = np.asarray(table["similarity"])[nearest].mean()
            reused += _reused(table)
            waiting.append(table)
            if sum(map(len, waiting)) >= _ROW_GROUP or image == len(photos) - 1:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
            report.progress(image + 1, len(photos), "photos")

    similarity = pq.read_table(out / PAIRS_FILE, columns=["similarity"])["similarity"].to_numpy()
    metrics = {
        "pairs": len(similarity),
        "pairs_per_image_mean": len(similarity) / len(photos),
        "similarity_mean": float(similarity.mean(dtype=np.float64)),
        "similarity_median": float(np.median(similarity)),
        "fallback_share": float(boxes["score"].isna().sum() / len(photos)),
        "reused_share": reused / len(similarity),
    }
    report.metric(**metrics)
    settings = {"fraction": fraction, "gallery_images": gallery_images, "neighbors": neighbors.shape[1]}
    write_gallery(out, photos, retrieval, likeness, settings=settings, metrics=metrics, count=gallery_images)
    write_preview(out, photos, retrieval, likeness)


def most_similar(similarity: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """The k largest entries of a similarity matrix, k = max(1, int(fraction * B)), as ORL's official code takes them.

    The paper's "top N pairs" of a B x B' matrix may be read as a share of its entries; the code's k is a share of
    its B rows, 10 pairs of a 100 x 100 matrix at N = 10 %. A box may be in several pairs.

    Args:
        similarity: (B, B'), a row for each box of the query.

    Returns:
        (k,) rows and (k,) columns, largest entry first, equal ones row by row.
    """
    flat = similarity.ravel()
    k = min(max(1, int(fraction * len(similarity))), len(flat))
    at_least = np.partition(flat, -k)[-k]
    candidates = np.flatnonzero(flat >= at_least)
    best = candidates[np.argsort(-flat[candidates], kind="stable")[:k]]
    return np.divmod(best, similarity.shape[1])


def _pairs(
    neighbors: np.ndarray, starts: np.ndarray, corners: np.ndarray, features: np.ndarray, fraction: float
) -> Iterator[tuple[int, pa.Table]]:
    """For each photo, its pairs with all its neighbours."""

    def rows(image: int) -> torch.Tensor:
        # float64 sums of products of float16 numbers of this size are exact (see stages/retrieval/neighbors.py), so
        # neither the order of pairs nor a tie between them depends on the library that multiplies.
        return torch.from_numpy(np.array(features[starts[image] : starts[image + 1]])).double()

    for image, others in enumerate(neighbors.tolist()):
        query = rows(image)
        parts = []
        for rank, other in enumerate(others):
            similarity = (query @ rows(other).T).numpy()
            roi, other_roi = most_similar(similarity, fraction)
            count = np.arange(len(roi))
            box, other_box = corners[starts[image] + roi], corners[starts[other] + other_roi]
            same = [np.full(len(roi), value) for value in (image, other, rank)]
            parts.append([*same, count, roi, other_roi, similarity[roi, other_roi], *box.T, *other_box.T])
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        arrays = [
            pa.array(column.astype(field.type.to_pandas_dtype()))
            for column, field in zip(columns, _SCHEMA, strict=True)
        ]
        yield image, pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _reused(table: pa.Table) -> int:
    """Of one photo's pairs, how many have a neighbour's box that is in another pair with that neighbour, too."""
    key = np.stack([np.asarray(table["rank"]), np.asarray(table["neighbor_roi"])])
    uses = np.unique(key, axis=1, return_counts=True)[1]
    return int(uses[uses > 1].sum())


def _neighbors(path: Path, photos: int) -> np.ndarray:
    """(N, K) photo numbers, nearest first."""
    table = pd.read_parquet(path, columns=["image", "rank", "neighbor"])
    count = len(table) // photos
    if not np.array_equal(table["image"].to_numpy(), np.repeat(np.arange(photos), count)) or count == 0:
        raise ValueError(
            f"{path} does not list the same number of neighbours for each of the {photos} photos in turn. "
            "It belongs to another catalog: run retrieval for this one."
        )
    return table["neighbor"].to_numpy().reshape(photos, count)


def _starts(images: np.ndarray, photos: int, features: int) -> np.ndarray:
    """(N + 1,) first row of each photo's boxes, then their number."""
    starts = np.searchsorted(images, np.arange(photos + 1))
    if len(images) != features or starts[-1] != len(images) or (np.diff(starts) == 0).any():
        raise ValueError(
            f"{len(images)} boxes, {features} features and {photos} photos do not belong together: each photo needs a "
            "box and each box a feature. Run regions and roi_features for this catalog."
        )
    return starts
