"""Object discovery: how well regions that were found without labels cover the labelled objects of photos.

Either those that a network finds (k-means on the cells of its feature map, see `feature_clusters`), or those that stage
3 has made: masks or boxes. The figures are those of `metrics.best_overlap`. Chance is what a grid of as many equal
rectangles reaches, and for CorLoc the box of the whole photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.correspondence.masks.quality import objects_by_photo
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog, Roots
from stages.data.masks import records
from stages.data.masks.segmentation import LabelMaps
from stages.data.masks.storage import Masks, MasksWriter
from stages.data.photos import Photos
from stages.evaluation.discovery.feature_clusters import Distance, cluster, grid
from stages.evaluation.discovery.photo_maps import PhotoMaps, shown
from stages.evaluation.discovery.sheet import write_sheet
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Outcome
from stages.evaluation.metrics import best_overlap
from stages.evaluation.metrics.best_overlap import Overlaps, box_around, object_box
from stages.evaluation.saved import THIS, save_outcome
from stages.process import available_cores, ordered_map, pool
from stages.report import Report
from stages.shards import LocalEngine, Shard, make_shards
from stages.shards import cut as cut_shards

_SHARD = 64  # photos that an interruption may cost
_DECODING_THREADS = 2  # keep up with any network that sees a photo at a time

_OfPhoto = Callable[[int, pd.DataFrame], Overlaps]  # of a photo's number and labels


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any] | None,
    masks: Path | None,
    regions: Path | None,
    test: Path,
    test_root: Roots,
    clusters: Sequence[int],
    cells: int,
    depth: str | None,
    output_stride: int,
    distance: Distance,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Measures the regions of one source on every photo of `test`. Resumes an interrupted run, shard by shard.

    What a network discovers stays: `masks.bin`, `index.npy` and `masks.json` hold its clusters, as step `masks` keeps
    label maps, so that others can look at them or learn from them (`Masks`); `clusters.png` shows some.

    Args:
        encoder, masks, regions: one of them: arguments of `open_backbone`, or the directory of an artifact of step
            `masks` or `regions` over the same photos.
        test, test_root: labelled catalog and the folder of its photos.
        clusters: numbers of clusters; each is a set of regions, and all together are one. CorLoc is foremost that of
            the first; 2 parts foreground from background.
        cells: of the feature map along the longer side of a photo, which is shown as large as that takes: `cells` times
            the map's stride. So all networks are asked for regions of one fineness.
        depth: of the feature map, a name of `Pyramid.names`; None: the last.
        output_stride: see `Pyramid`.
        distance: see `feature_clusters.cluster`.
        seed: of k-means, and of the resamples.
        workers: processes that cluster; 0: one a core.

    Raises:
        ValueError: not exactly one source, photos without labels, or an artifact of other photos.
    """
    if sum(source is not None for source in (encoder, masks, regions)) != 1:
        raise ValueError("discovery measures one source at a time: give exactly one of encoder, masks and regions.")
    catalog = Catalog(test, test_root)
    catalog.labels_of(0, 1, ["image"])  # raises where there are none
    shards = cut_shards(len(catalog), out / "scratch" / "discovery", ".npz", _SHARD)
    workers = workers or available_cores()
    settings: dict[str, Any] = {"photos": len(catalog)}
    if encoder is not None:
        network = PhotoMaps(open_backbone(**encoder), depth, output_stride, cells, device)
        layers, what = [f"k{number}" for number in clusters], "clusters"
        settings |= {"clusters": list(clusters), "cells": cells, "depth": network.depth, "output_stride": output_stride}
        settings["distance"] = distance
        measure = partial(_measured, tuple(clusters), distance, seed, catalog)
        with pool(min(workers, len(catalog))) as processes, ThreadPoolExecutor(_DECODING_THREADS) as threads:
            make = partial(_cluster_shard, catalog, network, measure, processes, threads)
            make_shards(make, shards, LocalEngine(1), report)
        _write_masks(out, shards, layers)
        write_sheet(out / "clusters.png", catalog, Masks(out))
    else:
        layers, what, of_photo = _artifact(masks, regions, catalog)
        make_shards(partial(_artifact_shard, catalog, of_photo), shards, LocalEngine(workers), report)

    found, chance = best_overlap.load([shard.path for shard in shards])
    estimates = best_overlap.estimates(found, layers, chance, seed=seed)
    if not estimates:
        raise ValueError(
            f"no photo of {test_root} has an object to discover that is neither a crowd nor difficult. Test on a data "
            "set with labelled objects."
        )
    figures = best_overlap.figures(list(estimates), layers, what)
    values = {key: {THIS: estimate} for key, estimate in estimates.items()}
    settings |= dict(zip(("objects", "classes", "objects_by_box"), found.counts.sum(axis=0).tolist(), strict=True))
    notes = []
    if len(layers) > 1:
        one_box = "" if regions is not None else f"; CorLoc, which asks for one box, of {layers[0]}"
        notes = [f"Figures that name none of {', '.join(layers)} are of all {what} together{one_box}."]
    save_outcome(Outcome("discovery", test.name, settings, figures, values, notes), out)
    report.metric(**{figure.metric: estimates[key].value for key, figure in figures.items() if figure.metric})


@dataclass(frozen=True)
class _Seen:
    """A photo as a worker process gets it."""

    image: int
    features: np.ndarray
    objects: pd.DataFrame


def _cluster_shard(
    catalog: Catalog,
    network: PhotoMaps,
    measure: Callable[[_Seen], tuple[Overlaps, Overlaps, bytes]],
    processes: Executor,
    threads: Executor,
    shard: Shard,
    path: Path,
) -> None:
    """Photos are decoded by threads, pass the network one by one, and are clustered and measured by processes."""
    images, objects = range(shard.first, shard.last), _objects(catalog, shard)
    photos = Photos(catalog)

    def picture(image: int) -> torch.Tensor:
        width, height = catalog.sizes[image].tolist()
        return shown(photos, network.shown_size((width, height)), image)

    pictures = ordered_map(threads, picture, images, window=2 * _DECODING_THREADS)

    def seen() -> Iterator[_Seen]:
        for image, pixels in zip(images, pictures, strict=True):
            yield _Seen(image, network(pixels), objects[image - shard.first])

    measured = ordered_map(processes, measure, seen(), window=2 * available_cores())
    found, chance, encoded = zip(*measured, strict=True)
    best_overlap.save(
        path, Overlaps.joined(found), Overlaps.joined(chance),
        records=np.frombuffer(b"".join(encoded), np.uint8), lengths=np.array([len(record) for record in encoded]),
    )  # fmt: skip


def _measured(
    clusters: Sequence[int], distance: Distance, seed: int, catalog: Catalog, seen: _Seen
) -> tuple[Overlaps, Overlaps, bytes]:
    """Of a photo's clusters, and of a grid; and the clusters as `records` keeps them."""
    width, height = catalog.sizes[seen.image].tolist()
    found = LabelMaps((width, height), cluster(seen.features, clusters, distance=distance, seed=seed))
    chosen = np.stack([object_box(labels, found.size) for labels in found.maps])
    whole = np.tile([0, 0, width, height], (len(clusters), 1))
    return (
        best_overlap.of_regions(found, chosen, seen.objects, catalog, seen.image),
        best_overlap.of_regions(grid((width, height), clusters), whole, seen.objects, catalog, seen.image),
        records.encode(found),
    )


def _write_masks(out: Path, shards: Sequence[Shard], layers: Sequence[str]) -> None:
    with MasksWriter(out, "labels", layers) as writer:
        for shard in shards:
            with np.load(shard.path, allow_pickle=False) as file:
                writer.append(file["records"], file["lengths"])


def _artifact(masks: Path | None, regions: Path | None, catalog: Catalog) -> tuple[list[str], str, _OfPhoto]:
    """Layers of what stage 3 has made, a word for it, and how a photo of it is measured."""
    if masks is not None:
        made = Masks(masks)
        made.check(len(catalog))
        return made.layers, "masks", partial(_of_masks, made, catalog)
    assert regions is not None, "one of the sources is given"
    boxes = Boxes(regions)
    boxes.check(len(catalog))
    return best_overlap.BOX_LAYERS, "boxes", partial(_of_boxes, boxes)


def _artifact_shard(catalog: Catalog, of_photo: _OfPhoto, shard: Shard, path: Path) -> None:
    photos = enumerate(_objects(catalog, shard), start=shard.first)
    best_overlap.save(path, Overlaps.joined([of_photo(image, objects) for image, objects in photos]), None)


def _of_masks(masks: Masks, catalog: Catalog, image: int, objects: pd.DataFrame) -> Overlaps:
    """The box of CorLoc: of label maps as of clusters, see `object_box`; of masks that overlap that of the best one."""
    if masks.kind == "stack":
        stack = masks.mask_runs(image)
        return best_overlap.of_regions(stack, box_around(next(stack.masks()))[None], objects, catalog, image)
    found = LabelMaps(masks.size(image), [masks.labels(image, layer) for layer in range(len(masks.layers))])
    chosen = np.stack([object_box(labels, found.size) for labels in found.maps])
    return best_overlap.of_regions(found, chosen, objects, catalog, image)


def _of_boxes(boxes: Boxes, image: int, objects: pd.DataFrame) -> Overlaps:
    return best_overlap.of_boxes(boxes.of(image), objects)


def _objects(catalog: Catalog, shard: Shard) -> list[pd.DataFrame]:
    """The labels of each of the shard's photos."""
    objects = objects_by_photo(catalog, shard.first, shard.last)
    assert objects is not None, "whether there are labels was looked at before"
    return objects
