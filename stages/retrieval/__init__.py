"""Stage 2: which photos look alike to the encoder (ORL, section 3.2, nearest-neighbour retrieval)."""

from __future__ import annotations

from pathlib import Path

import torch

from stages.data.catalog import Catalog, Roots
from stages.data.rows import Rows
from stages.learning.devices import resolve_device
from stages.report import Report
from stages.retrieval.approximate import ApproximateFinder, hnsw_index, ivf_index, measured_recall
from stages.retrieval.embed import embed_photos
from stages.retrieval.exact import ExactFinder, Finder
from stages.retrieval.neighbors import nearest_neighbors
from stages.retrieval.tables import DuplicatesWriter, NeighborsWriter

EMBEDDINGS_FILE = "embeddings.npy"


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    encoder: Path,
    neighbors: int,
    resize: int,
    crop: int,
    precision: str,
    index: str,
    exact_up_to: int,
    ivf_probes: int,
    hnsw_links: int,
    hnsw_search: int,
    recall_sample: int,
    max_similarity: float | None,
    batch_size: int,
    compile: bool | None,
    device: str,
    workers: int,
) -> None:
    """Embeds all photos and finds the `neighbors` nearest other photos of each.

    Writes `embeddings.npy` (N, D) float16, L2-normalised projections, `neighbors.parquet` and, with `max_similarity`,
    `duplicates.parquet`; see `stages.retrieval.tables`. The projector's output is what the official code compares
    photos by; RoIs are compared by the backbone's. Embedding resumes an interrupted run.

    Reports `recall_at_k`, the share of the exact nearest neighbours that were found: 1 for `exact`, which is proven
    (see `stages.retrieval.exact`), else measured on a sample.

    Args:
        catalog, root, encoder: directories of the catalog, of its photos and of the trained encoder.
        neighbors: K, less than the number of photos.
        resize, crop: shorter side, then centre crop, in pixels.
        precision, compile: of the network, see `Frozen`.
        index: exact, ivf, hnsw, or auto: exact up to `exact_up_to` photos, then ivf.
        ivf_probes, hnsw_links, hnsw_search: see `stages.retrieval.approximate`.
        recall_sample: photos that are searched exactly, too.
        max_similarity: photos more similar than this are near-duplicates and no neighbours; None: they are, as in ORL.
        device: embeds, and searches exactly; "cuda" searches on all GPUs of the machine.

    Raises:
        ValueError: `neighbors` is not between 1 and N - 1, or near-duplicates leave fewer.
    """
    photos = Catalog(catalog, root)
    if not 1 <= neighbors < len(photos):
        raise ValueError(
            f"retrieval.neighbors={neighbors} is not possible with {len(photos)} photos: it must be at least 1 and "
            f"less than their number. Set retrieval.neighbors to {len(photos) - 1} or less, or add photos."
        )
    where = resolve_device(device)
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    embed_photos(
        photos, encoder, out / EMBEDDINGS_FILE, scratch, report, resize=resize, crop=crop, precision=precision,
        batch_size=batch_size, compile=compile, device=where, workers=workers,
    )  # fmt: skip

    rows = Rows(out / EMBEDDINGS_FILE)
    exact = ExactFinder(rows, neighbors, _devices(where))
    if index == "auto":
        index = "exact" if len(rows) <= exact_up_to else "ivf"
    find: Finder = exact
    recall = 1.0
    if index != "exact":
        made = (
            ivf_index(rows, probes=ivf_probes, folder=scratch)
            if index == "ivf"
            else hnsw_index(rows, links=hnsw_links, search=hnsw_search)
        )
        find = ApproximateFinder(rows, made, exact)
        recall = measured_recall(rows, find, exact, neighbors, recall_sample)
        report.metric(recall_sample=min(recall_sample, len(rows)))

    nearest = farthest = 0.0
    with NeighborsWriter(out) as table, DuplicatesWriter(out, wanted=max_similarity is not None) as duplicates:
        for found in nearest_neighbors(rows, neighbors, find, max_similarity):
            table.append(found.numbers, found.similarity)
            duplicates.append(found.duplicate_images, found.duplicates, found.duplicate_similarity)
            nearest += float(found.similarity[:, 0].sum(dtype=float))
            farthest += float(found.similarity[:, -1].sum(dtype=float))
            report.progress(found.first + len(found.numbers), len(rows), "searches")
    report.metric(index=index, recall_at_k=recall)
    report.metric(nearest_similarity=nearest / len(rows), farthest_similarity=farthest / len(rows))
    if max_similarity is not None:
        report.metric(near_duplicates=duplicates.pairs, near_duplicate_images=duplicates.images)


def _devices(device: torch.device) -> list[torch.device]:
    """All GPUs of the machine for "cuda", the one that was named for "cuda:1" and the like."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [device]
