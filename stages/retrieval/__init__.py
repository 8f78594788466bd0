"""Stage 2: which photos look alike to the encoder (ORL, section 3.2, nearest-neighbour retrieval)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.catalog import Catalog
from stages.learning.devices import resolve_device
from stages.report import Report
from stages.retrieval.embed import embed_photos
from stages.retrieval.neighbors import nearest_neighbors

EMBEDDINGS_FILE = "embeddings.npy"
NEIGHBORS_FILE = "neighbors.parquet"

_SCHEMA = pa.schema(
    [("image", pa.int32()), ("rank", pa.int16()), ("neighbor", pa.int32()), ("similarity", pa.float32())]
)


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Path,
    encoder: Path,
    neighbors: int,
    resize: int,
    crop: int,
    batch_size: int,
    device: str,
    workers: int,
) -> None:
    """Embeds all photos and finds the `neighbors` nearest other photos of each.

    Writes `embeddings.npy` (N, D) float16, L2-normalised projections, and `neighbors.parquet` (image int32, rank
    int16 from 0, neighbor int32, similarity float32), sorted by image and rank. The projector's output is what the
    official code compares photos by; RoIs are compared by the backbone's.

    Args:
        catalog, root, encoder: directories of the catalog, of its photos and of the trained encoder.
        neighbors: K, less than the number of photos.
        resize, crop: shorter side, then centre crop, in pixels.

    Raises:
        ValueError: `neighbors` is not between 1 and N - 1.
    """
    photos = Catalog(catalog, root)
    if not 1 <= neighbors < len(photos):
        raise ValueError(
            f"retrieval.neighbors={neighbors} is not possible with {len(photos)} photos: it must be at least 1 and "
            f"less than their number. Set retrieval.neighbors to {len(photos) - 1} or less, or add photos."
        )
    where = resolve_device(device)
    embed_photos(
        photos, encoder, out / EMBEDDINGS_FILE, report,
        resize=resize, crop=crop, batch_size=batch_size, device=where, workers=workers,
    )  # fmt: skip

    rows = np.load(out / EMBEDDINGS_FILE, mmap_mode="r", allow_pickle=False)
    nearest = farthest = 0.0
    with pq.ParquetWriter(out / NEIGHBORS_FILE, _SCHEMA) as writer:
        for first, found, similarity in nearest_neighbors(rows, neighbors, where):
            images = np.arange(first, first + len(found), dtype=np.int32)
            columns = [
                np.repeat(images, neighbors),
                np.tile(np.arange(neighbors, dtype=np.int16), len(images)),
                found.astype(np.int32).ravel(),
                similarity.ravel(),
            ]
            writer.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], schema=_SCHEMA))
            nearest += float(similarity[:, 0].sum(dtype=np.float64))
            farthest += float(similarity[:, -1].sum(dtype=np.float64))
            report.progress(first + len(found), len(rows), "searches")
    report.metric(nearest_similarity=nearest / len(rows), farthest_similarity=farthest / len(rows))
