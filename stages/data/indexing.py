"""Step `catalog`: reads every photo of a data set once, and says which can be used; and the digest of a data set."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.data.catalog_writer import PHOTO, CatalogWriter, in_natural_order, name_classes
from stages.data.content_hashes import ContentHashes
from stages.data.formats import Listing, Source, read_listing
from stages.data.formats.folder import SUFFIXES
from stages.data.inspection import inspected
from stages.data.label_writer import LabelWriter
from stages.report import Report
from stages.shards import Engine, LocalEngine

_BLOCK = 65_536  # files that are hashed between two looks at their listing

log = logging.getLogger(__name__)


def fingerprint(*, cache: Path | None, workers: int, **source: Any) -> str:
    """SHA-256 (64 hex digits) over what a data set holds: paths relative to `root`, contents, and annotations; and over
    the settings that choose among them.

    Moving or touching the data set leaves it as it is; another content, name, number, order or label changes it. A
    file that cannot be read counts as such. Memory: a few dozen bytes a file, for its name.

    Args:
        cache: see `stages.data.content_hashes.ContentHashes`; listings are remembered beside it.
        source: the attributes of `stages.data.formats.Source`.
    """
    digest = hashlib.sha256()
    for root, part in Source(**source).each():
        listing = read_listing(part, root, cache)
        choices = [part.format, part.split, part.min_classes, part.min_images_per_class]
        digest.update(json.dumps(choices).encode() + b"\0")
        with ContentHashes(cache, workers) as hashes:
            for first in range(0, len(listing.paths), _BLOCK):
                names = list(listing.paths.part(first, first + _BLOCK))
                for name, sha256 in zip(names, hashes.of(f"{root}/{name}" for name in names), strict=True):
                    digest.update(sha256.tobytes() + name.encode() + b"\0")  # no file name holds a zero byte
            for sha256 in hashes.of(listing.annotation_files):
                digest.update(sha256.tobytes() + b"annotations\0")
    return digest.hexdigest()


def run(
    *,
    out: Path,
    report: Report,
    min_side: int,
    max_rejected: float,
    workers: int,
    engine: Engine | None = None,
    hashes: Path | None = None,
    **source: Any,
) -> None:
    """Decodes every photo once and writes the catalog.

    Writes `images.parquet` (image int32, path str, width int32, height int32, bytes int64, sha256 str; size with
    EXIF orientation applied; of joined data sets part int32; of archives offset int64, its first byte in there; where
    photos have classes, class str), the same for programs (see `stages.data.catalog`), `rejected.parquet` (path,
    reason) and, where the data set has labels, `labels.parquet` (see `stages.data.formats.Labels.objects`; `image`
    numbers the usable photos, boxes are clipped to them), and `categories.json` for labels and classes. Goes on where
    an interrupted run has stopped, from the shards in `out/scratch`.

    Memory grows by a few dozen bytes a photo, for its name in the listing, by eight for counting duplicates, and by 50
    an object while its labels are sorted; formats that are JSON or XML take what Python makes of these files.

    Args:
        min_side: least length of a photo's shorter side, in pixels.
        max_rejected: largest share of unusable files that is put up with, 0 to 1.
        engine: where photos are looked at; None for `workers` processes of this machine.
        hashes: the cache of `fingerprint`.
        source: the attributes of `stages.data.formats.Source`.

    Raises:
        ValueError: no usable photo, or too many unusable files.
    """
    parts = [(root, part, read_listing(part, root, hashes)) for root, part in Source(**source).each()]
    for root, part, listing in parts:
        if not len(listing.paths):
            raise ValueError(_nothing_found(listing, root, part))
    listings = [listing for _, _, listing in parts]
    usable: list[list[np.ndarray]] = [[] for _ in parts]
    bounds = [0]
    with _Rejected(out / "rejected.parquet") as rejected, CatalogWriter(
        out, joined=source["format"] == "joined", archived=any(listing.archives for listing in listings),
        classed=any(listing.archives or listing.class_folders for listing in listings),
    ) as photos:  # fmt: skip
        for number, (root, _, listing) in enumerate(parts):
            scratch = out / "scratch" / str(number)
            for batch in inspected(listing, root, min_side, scratch, engine or LocalEngine(workers), report):
                good = pc.is_null(batch["kind"])
                photos.add(batch.filter(good).select(PHOTO.names), number)
                rejected.add(batch.filter(pc.invert(good)))
                if listing.read_labels is not None:
                    usable[number].append(good.to_numpy(zero_copy_only=False))
            bounds.append(photos.count)
    rejected.check(photos.count, max_rejected, ", ".join(str(root) for root, _, _ in parts))
    report.metric(
        images=photos.count,
        rejected=rejected.count,
        rejected_by_kind=dict(sorted(rejected.kinds.items())),
        duplicates=_duplicates(out),
        ignored_files=sum(listing.ignored.total() for listing in listings),
    )
    categories: list[str] = []
    if any(listing.read_labels is not None for listing in listings):
        sizes = np.load(out / "sizes.npy", mmap_mode="r", allow_pickle=False)
        with LabelWriter(out / "labels.parquet", categories) as labels:
            for listing, masks, (first, last) in zip(listings, usable, pairwise(bounds), strict=True):
                if listing.read_labels is not None:
                    labels.add(listing.read_labels(), np.concatenate(masks), first, sizes[first:last])
        report.metric(**labels.metrics)
    if photos.classed:
        categories += (name for name in in_natural_order(photos.class_names) if name not in categories)
        name_classes(out, photos.class_names, categories)
        report.metric(classes=len(photos.class_names))
    if categories:
        (out / "categories.json").write_text(json.dumps(categories))


def _duplicates(catalog: Path) -> int:
    """Photos whose content an earlier photo has, told by the first 64 of the 256 bits."""
    sha256 = np.load(catalog / "sha256.npy", mmap_mode="r", allow_pickle=False)
    return len(sha256) - len(np.unique(np.ascontiguousarray(sha256[:, :8]).view(np.uint64)))


class _Rejected:
    """`rejected.parquet`, row by row."""

    _SCHEMA = pa.schema([("path", pa.string()), ("reason", pa.string())])

    def __init__(self, path: Path) -> None:
        self.kinds: Counter[str] = Counter()
        self._first: list[dict[str, str]] = []
        self._file = pq.ParquetWriter(path, self._SCHEMA)

    @property
    def count(self) -> int:
        return self.kinds.total()

    def add(self, batch: pa.RecordBatch) -> None:
        if len(batch):
            self.kinds.update(batch["kind"].to_pylist())
            rows = batch.select(self._SCHEMA.names)
            self._first += rows.slice(0, 5 - len(self._first)).to_pylist()
            self._file.write_batch(rows)

    def check(self, usable: int, max_rejected: float, root: str) -> None:
        """Warns of the files that can't be used, or raises ValueError when they are too many."""
        if not self.count:
            return
        total = usable + self.count
        message = f"{self.count} of {total} images in {root} cannot be used"
        first = "".join(f"\n  {row['path']}: {row['reason']}" for row in self._first)
        if not usable:
            raise ValueError(
                f"{message}, so nothing is left. The first:{first}\nCheck the files, and dataset.min_side."
            )
        if self.count > max_rejected * total:
            raise ValueError(
                f"{message}, a share of {self.count / total:.1%}; at most {max_rejected:.1%} is allowed. "
                f"The first:{first}\nRepair or remove the files, or raise dataset.max_rejected."
            )
        log.warning("%s and are left out (see rejected.parquet). The first:%s", message, first)

    def __enter__(self) -> _Rejected:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _nothing_found(listing: Listing, root: Path, source: Source) -> str:
    searched = {
        "folder": "a folder of photos",
        "class_folders": "a folder that holds a folder of photos for each class",
        "webdataset": "a folder of tar archives",
    }
    if source.format not in searched:
        named = f"{source.split or source.annotations or source.list_file} of dataset.root={root}"
        return f"no images: {named} names none (dataset.format={source.format}). Check that setting."
    others = ", ".join(f"{count} {suffix}" for suffix, count in listing.ignored.most_common(5))
    return (
        f"no images in dataset.root={root}: looked there and in all folders below for files ending in "
        f"{'.tar' if listing.archives else ' '.join(sorted(SUFFIXES))} (hidden ones skipped); files of other kinds: "
        f"{others or 'none'}. Set dataset.root to {searched[source.format]}."
    )
