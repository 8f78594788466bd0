"""Step `masks`: segmentations of every photo, for methods that learn from regions (DetCon). Needs no network."""

from __future__ import annotations

import functools
import importlib
import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.correspondence.masks.quality import MaskQuality, objects_by_photo
from stages.data.catalog import Catalog, Roots
from stages.data.masks import records
from stages.data.masks.segmentation import LabelMaps, Segment, Segmentation
from stages.data.masks.storage import MasksWriter
from stages.report import Report
from stages.shards import SHARD, Engine, Shard, cut, make_shards

METHODS = ("felzenszwalb", "grid", "slic", "ground_truth", "files")

_SMALLEST_SHARD = 16  # photos; what an interruption costs each worker, against the writing of a file
_SHARDS = 64  # of a small data set, so that all workers have some
_MANY_FALLBACKS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Settings:
    """What a worker needs to know. Hashable, so that it opens the catalog once."""

    catalog: Path
    root: Path | tuple[Path, ...]
    method: str
    options: tuple[tuple[str, Any], ...]


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    method: str,
    options: Mapping[str, Any],
    device: str,
    workers: int,
    engine: Engine,
) -> None:
    """Segments every photo. Writes `masks.bin`, `index.npy` and `masks.json`, see `stages.correspondence.masks.Masks`.

    Where the catalog has labels, the metrics say how well the regions cover the objects, see
    `stages.correspondence.masks.quality`. Resumes an interrupted run from the shards in `out/scratch`, which belong to
    the same settings as `out` does.

    Args:
        method: one of METHODS, a module of this package each.
        options: arguments of that module's `make`.
        device: not used; no method has a network.
        workers: of `engine`, where it is this machine.

    Raises:
        ValueError, OSError: the method lacks what it needs (labels, files), or that is of other photos.
        UnreadablePhoto: a photo has changed since the catalog was made.
    """
    places = root if isinstance(root, str | Path) else tuple(root)
    fixed = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())
    settings = _Settings(catalog, places, method, fixed)
    images, layers, _ = _tools(settings)
    shards = cut(len(images), out / "scratch", ".npz", min(SHARD, max(_SMALLEST_SHARD, len(images) // _SHARDS)))
    make_shards(functools.partial(_make, settings), shards, engine, report)
    _concatenate(out, shards, layers, report)


@functools.lru_cache(maxsize=1)
def _tools(settings: _Settings) -> tuple[Catalog, list[str], Segment]:
    """The catalog, the names of the layers (none for masks that overlap), and the method."""
    if settings.method not in METHODS:
        raise ValueError(f"masks.method={settings.method!r} is not known. Choose one of: {', '.join(METHODS)}.")
    catalog = Catalog(settings.catalog, settings.root)
    module = importlib.import_module(f"stages.correspondence.masks.{settings.method}")
    layers, segment = module.make(catalog=catalog, **dict(settings.options))
    return catalog, layers, segment


def _make(settings: _Settings, shard: Shard, path: Path) -> None:
    """The records of the shard's photos, and what the metrics are made of."""
    catalog, layers, segment = _tools(settings)
    # Measured against itself the ground truth would be perfect.
    objects = None if settings.method == "ground_truth" else objects_by_photo(catalog, shard.first, shard.last)
    quality = MaskQuality(max(1, len(layers)))
    encoded: list[bytes] = []
    regions, fallbacks, seconds = np.zeros(max(1, len(layers)), np.int64), 0, 0.0
    for image in range(shard.first, shard.last):
        start = time.perf_counter()
        segmentation = segment(image)
        encoded.append(records.encode(segmentation))
        seconds += time.perf_counter() - start
        counts = _regions(segmentation)
        regions += counts
        fallbacks += _falls_back(segmentation, counts)
        if objects is not None:
            quality.add(segmentation, objects[image - shard.first], catalog, image)
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.savez(
            file, records=np.frombuffer(b"".join(encoded), np.uint8), lengths=[len(record) for record in encoded],
            regions=regions, fallbacks=fallbacks, seconds=seconds,
            counts=quality.counts, overlap=quality.overlap, recovered=quality.recovered,
        )  # fmt: skip


def _regions(segmentation: Segmentation) -> np.ndarray:
    """How many regions each layer has; of a stack, how many masks: (L,) int64."""
    if isinstance(segmentation, LabelMaps):
        return np.array([np.count_nonzero(np.bincount(labels.reshape(-1))) for labels in segmentation.maps])
    return np.array([len(segmentation.runs)])


def _falls_back(segmentation: Segmentation, regions: np.ndarray) -> bool:
    """Whether a map has but one region, or the whole photo stands in for masks."""
    if isinstance(segmentation, LabelMaps):
        return bool(regions.min() == 1)
    return bool(np.isnan(segmentation.scores).any())


def _concatenate(out: Path, shards: Sequence[Shard], layers: Sequence[str], report: Report) -> None:
    """One shard at a time, so that memory does not grow with their number."""
    quality = MaskQuality(max(1, len(layers)))
    photos, fallbacks, seconds, regions = 0, 0, 0.0, np.zeros(max(1, len(layers)))
    with MasksWriter(out, "labels" if layers else "stack", layers) as writer:
        for shard in shards:
            made = _read(shard.path)
            writer.append(made["records"], made["lengths"])
            photos += len(made["lengths"])
            fallbacks, seconds = fallbacks + int(made["fallbacks"]), seconds + float(made["seconds"])
            regions += made["regions"]
            quality.merge(made)
    report.metric(
        photos=photos,
        bytes_per_image=writer.bytes / photos,
        seconds_per_image=seconds / photos,
        fallback_images=fallbacks,
        **{
            f"regions_per_image_{layer}" if layer else "regions_per_image": float(mean)
            for layer, mean in zip(layers or [""], regions / photos, strict=True)
        },
        **quality.metrics(layers),
    )
    if fallbacks > _MANY_FALLBACKS * photos:
        log.warning(
            "%d of %d photos have a segmentation of a single region, the whole photo: contrasting regions there is "
            "contrasting photos. Segment more finely, with smaller masks.felzenszwalb.scales for example.",
            fallbacks,
            photos,
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}). Delete that file and run again: the others stay.") from error
