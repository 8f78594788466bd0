"""Step `catalog`: reads every photo of a data set once, and says which can be used; and the digest of a data set."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data.content_hashes import content_hashes
from stages.data.decode import PhotoInfo, Rejection, inspect
from stages.data.formats import Labels, Listing, read_listing
from stages.data.formats.folder import SUFFIXES
from stages.process import ordered_map, pool
from stages.report import Report

_CHUNK = 64

log = logging.getLogger(__name__)


def fingerprint(
    *,
    format: str,
    root: Path,
    annotations: Path | None,
    split: str | None,
    list_file: Path | None,
    cache: Path | None,
    workers: int,
) -> str:
    """SHA-256 (64 hex digits) over what a data set holds: paths relative to `root`, contents, and annotations.

    Moving or touching the data set leaves it as it is; another content, name, number, order or label changes it. A
    file that cannot be read counts as such.

    Args:
        format, root, annotations, split, list_file: see `stages.data.formats.read_listing`.
        cache: see `stages.data.content_hashes.content_hashes`.
    """
    listing = read_listing(format=format, root=root, annotations=annotations, split=split, list_file=list_file)
    files = [root / path for path in listing.paths] + listing.annotation_files
    hashes = content_hashes(files, cache, workers)
    names = listing.paths + ["annotations"] * len(listing.annotation_files)
    digest = hashlib.sha256()
    for name, sha256 in zip(names, hashes, strict=True):
        digest.update(f"{sha256} {name}\0".encode())  # no file name holds a zero byte
    return digest.hexdigest()


def run(
    *,
    out: Path,
    report: Report,
    format: str,
    root: Path,
    annotations: Path | None,
    split: str | None,
    list_file: Path | None,
    min_side: int,
    max_rejected: float,
    workers: int,
    hashes: Path | None = None,
) -> None:
    """Decodes every photo once and writes the catalog.

    Writes `images.parquet` (image int32, path str, width int32, height int32, bytes int64, sha256 str; size with
    EXIF orientation applied), `rejected.parquet` (path, reason) and, where the data set has labels, `labels.parquet`
    (see `stages.data.formats.Labels.objects`; `image` numbers the usable photos, boxes are clipped to them) and
    `categories.json`.

    Args:
        format, root, annotations, split, list_file: see `stages.data.formats.read_listing`.
        min_side: least length of a photo's shorter side, in pixels.
        max_rejected: largest share of unusable files that is put up with, 0 to 1.
        hashes: remembered hashes of file contents, see `stages.data.content_hashes.content_hashes`.

    Raises:
        ValueError: no usable photo, or too many unusable files.
    """
    listing = read_listing(format=format, root=root, annotations=annotations, split=split, list_file=list_file)
    if not listing.paths:
        raise ValueError(_nothing_found(listing, format, root, split or annotations or list_file))
    sha256 = np.array(content_hashes([root / path for path in listing.paths], hashes, workers), dtype=object)
    found = _inspect_all(listing.paths, root, min_side, workers, report)

    rejections = {path: each for path, each in zip(listing.paths, found, strict=True) if isinstance(each, Rejection)}
    _write_rejected(out, rejections)
    _check_rejections(rejections, len(found), max_rejected, root)

    usable = np.array([isinstance(each, PhotoInfo) for each in found])
    photos = [each for each in found if isinstance(each, PhotoInfo)]
    images = pd.DataFrame(
        {
            "image": np.arange(len(photos), dtype=np.int32),
            "path": np.array(listing.paths, dtype=object)[usable],
            "width": np.array([photo.width for photo in photos], dtype=np.int32),
            "height": np.array([photo.height for photo in photos], dtype=np.int32),
            "bytes": np.array([photo.bytes for photo in photos], dtype=np.int64),
            "sha256": sha256[usable],
        }
    ).astype({"path": "str", "sha256": "str"})
    images.to_parquet(out / "images.parquet", index=False)
    report.metric(
        images=len(photos),
        rejected=len(rejections),
        rejected_by_kind=dict(sorted(Counter(each.kind for each in rejections.values()).items())),
        duplicates=int(images["sha256"].duplicated().sum()),
        ignored_files=listing.ignored.total(),
    )
    if listing.read_labels is not None:
        _write_labels(out, report, listing.read_labels(), usable, images[["width", "height"]].to_numpy())


def _inspect_all(
    paths: list[str], root: Path, min_side: int, workers: int, report: Report
) -> list[PhotoInfo | Rejection]:
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    inspect_chunk = functools.partial(_inspect_chunk, root, min_side)
    found: list[PhotoInfo | Rejection] = []
    with pool(min(workers, len(chunks))) as processes:
        for results in ordered_map(processes, inspect_chunk, chunks, window=4 * max(1, workers)):
            found += results
            report.progress(len(found), len(paths), "images")
    return found


def _inspect_chunk(root: Path, min_side: int, paths: list[str]) -> list[PhotoInfo | Rejection]:
    return [inspect(root / path, min_side) for path in paths]


def _write_rejected(out: Path, rejections: dict[str, Rejection]) -> None:
    reasons = [each.reason for each in rejections.values()]
    table = pd.DataFrame({"path": list(rejections), "reason": reasons}, dtype="str")
    table.to_parquet(out / "rejected.parquet", index=False)


def _check_rejections(rejections: dict[str, Rejection], total: int, max_rejected: float, root: Path) -> None:
    if not rejections:
        return
    message = f"{len(rejections)} of {total} images in {root} cannot be used"
    first = "".join(f"\n  {path}: {each.reason}" for path, each in islice(rejections.items(), 5))
    if len(rejections) == total:
        raise ValueError(f"{message}, so nothing is left. The first:{first}\nCheck the files, and dataset.min_side.")
    if len(rejections) > max_rejected * total:
        raise ValueError(
            f"{message}, a share of {len(rejections) / total:.1%}; at most {max_rejected:.1%} is allowed. "
            f"The first:{first}\nRepair or remove the files, or raise dataset.max_rejected."
        )
    log.warning("%s and are left out (see rejected.parquet). The first:%s", message, first)


def _nothing_found(listing: Listing, format: str, root: Path, source: Path | str | None) -> str:
    if format != "folder":
        return f"no images: {source} of dataset.root={root} names none (dataset.format={format}). Check that setting."
    others = ", ".join(f"{count} {suffix}" for suffix, count in listing.ignored.most_common(5))
    return (
        f"no images in dataset.root={root}: looked there and in all folders below for files ending in "
        f"{' '.join(sorted(SUFFIXES))} (hidden ones skipped); files of other kinds: {others or 'none'}. "
        "Set dataset.root to a folder of photos."
    )


def _write_labels(out: Path, report: Report, labels: Labels, usable: np.ndarray, sizes: np.ndarray) -> None:
    """Drops the objects of rejected photos, renumbers the others, clips their boxes to the photos.

    Args:
        usable: (number of listed paths,) bool.
        sizes: (number of usable photos, 2), width and height of the decoded photos.
    """
    claimed = labels.sizes[usable]
    mismatched = int(((claimed != sizes) & (claimed > 0)).any(axis=1).sum())
    if mismatched:
        log.warning(
            "%d photos have another size than their annotations say, so their boxes may be off. Most often the photos "
            "were resized, or annotated without regard to the EXIF orientation.",
            mismatched,
        )
    objects = labels.objects[usable[labels.objects["image"]]].copy()
    objects["image"] = (np.cumsum(usable, dtype=np.int32) - 1)[objects["image"]]
    width, height = sizes[objects["image"]].T
    for x, y in (("x0", "y0"), ("x1", "y1")):
        objects[x] = np.clip(objects[x], 0, width)
        objects[y] = np.clip(objects[y], 0, height)
    # Also false for NaN.
    extended = (objects["x1"] > objects["x0"]) & (objects["y1"] > objects["y0"])
    kept = objects[extended].sort_values("image", kind="stable")
    kept.to_parquet(out / "labels.parquet", index=False)
    (out / "categories.json").write_text(json.dumps(labels.categories))
    report.metric(
        objects=len(kept),
        labelled_images=int(kept["image"].nunique()),
        categories=len(labels.categories),
        degenerate_boxes=len(objects) - len(kept),
        size_mismatches=mismatched,
    )
