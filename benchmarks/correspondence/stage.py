"""The whole of stage 3, end to end: ours on all photos, the official order of work on some, with the same network.

Ours: the steps regions, roi_features and correspondence with the defaults of the configuration, figures and gallery
included. Neighbours are made before, by the step retrieval, and are the same for both. The official order
(`official.py`) would take hours: it is timed on some photos with all their neighbours, and scaled by the number of
photos, which its time is linear in. Its JSON files are neither written nor read here, and PyTorch has all cores:
both in its favour.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from benchmarks.correspondence.official import opencv_boxes, pairs_of_photo
from benchmarks.correspondence.part import FILTER, Setup
from benchmarks.rounds import summary
from stages import retrieval
from stages.config.correspondence import Correspondence, Regions, Retrieval, RoiFeatures
from stages.config.section import Section
from stages.correspondence import pairs, regions, roi_features
from stages.data.catalog import Catalog
from stages.learning.encoder import load_encoder, random_encoder, save_encoder
from stages.process import ordered_map, pool
from stages.report import Report
from stages.shards import LocalEngine

STEPS = "regions", "roi_features", "correspondence"


def measure(setup: Setup) -> dict[str, Any]:
    catalog = setup.data.catalog(setup.pick(setup.photos, 6))
    work = setup.work / "stage"
    for name in ("encoder", "retrieval", *STEPS):
        (work / name).mkdir(parents=True)
    backbone, size, neighbors = ("test_resnet", 32, 2) if setup.quick else ("resnet50", 224, 10)
    neighbors = min(neighbors, len(catalog) - 1)
    save_encoder(random_encoder(0, backbone=backbone, projector_hidden=512, projector_out=256), work / "encoder")
    setup.say(f"stage: neighbours of {len(catalog)} photos (not timed)")
    common: dict[str, Any] = {"catalog": catalog.directory, "root": catalog.root}
    resources: dict[str, Any] = {"device": str(setup.device), "workers": setup.workers}
    settings: dict[str, Any] = Retrieval(neighbors=neighbors).all_fields()
    retrieval.run(
        out=work / "retrieval", report=Report(), encoder=work / "encoder", **common, **settings, **resources
    )  # fmt: skip

    ours, metrics = _ours(setup, work, size, common, resources)
    official = _official(setup, work, size, catalog)
    photos = len(catalog)
    total = {"ours": sum(ours.values()), "official": photos * official["seconds_per_photo"]["median"]}
    files = {name: _bytes(work / name) / photos for name in STEPS}
    figures = {
        "photos": photos,
        "neighbors": neighbors,
        "backbone": backbone,
        "seconds": total,
        "seconds_of_steps": ours,
        "metrics": metrics,
        "bytes_per_photo": files,
        "official": official,
    }
    return figures | {"headline": {"stage_vs_official_order": total["official"] / total["ours"]}}


def _ours(
    setup: Setup, work: Path, size: int, common: dict[str, Any], resources: dict[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of each step, and its metrics."""
    chosen = Regions()
    engine = LocalEngine(setup.workers)
    search = chosen.model_dump(exclude={*_sections(chosen), "proposals"})
    search |= {"proposals": chosen.proposals, "options": chosen.chosen.model_dump() if chosen.chosen else {},
               "encoder": None, "seed": 0, "engine": engine}  # fmt: skip
    made = {name: work / name for name in ("retrieval", *STEPS)}
    features = RoiFeatures(size=size).all_fields()
    features |= {"encoder": work / "encoder", "regions": made["regions"], "engine": engine}
    match = Correspondence().result_fields() | {name: made[name] for name in ("retrieval", "regions", "roi_features")}
    ways: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
        "regions": (regions.run, search),
        "roi_features": (roi_features.run, features),
        "correspondence": (pairs.run, match),
    }
    seconds, metrics = {}, {}
    for name, (run, settings) in ways.items():
        report = Report()
        started = time.perf_counter()
        run(out=made[name], report=report, **common, **settings, **resources)
        seconds[name] = time.perf_counter() - started
        metrics[name] = report.metrics
        setup.say(f"stage: {name} took {seconds[name]:.1f} s")
    return seconds, metrics


def _sections(section: Section) -> set[str]:
    """Names of the sections in a section."""
    return {name for name in type(section).model_fields if isinstance(getattr(section, name), Section)}


def _official(setup: Setup, work: Path, size: int, catalog: Catalog) -> dict[str, Any]:
    """Seconds a photo of the official order, on a few photos and all their neighbours."""
    table = pd.read_parquet(work / "retrieval" / "neighbors.parquet")
    neighbors = table["neighbor"].to_numpy().reshape(len(catalog), -1)
    queries = np.linspace(0, len(catalog) - 1, setup.pick(6, 2)).round().astype(int).tolist()
    scenes = [[query, *neighbors[query].tolist()] for query in queries]
    needed = sorted({image for scene in scenes for image in scene})
    setup.say(f"stage: the official order, selective search of {len(needed)} photos")
    started = time.perf_counter()
    with pool(setup.workers) as processes:
        found = list(ordered_map(processes, functools.partial(_proposals, catalog), needed, window=4 * setup.workers))
    search = (time.perf_counter() - started) / len(needed)
    proposals = dict(zip(needed, found, strict=True))

    encoder = load_encoder(work / "encoder").to(setup.device).eval()
    seconds = []
    for scene in scenes:
        started = time.perf_counter()
        pairs_of_photo(
            encoder,
            [catalog.path(image) for image in scene],
            [proposals[image] for image in scene],
            0.1,
            size,
            **FILTER,
        )
        seconds.append(time.perf_counter() - started)
        setup.say(f"stage: the official order took {seconds[-1]:.1f} s for the pairs of a photo")
    return {
        "photos_timed": len(queries),
        "selective_search_seconds_per_photo": search,
        "seconds_per_photo": summary(np.array(seconds) + search),
        "threads": torch.get_num_threads(),
    }


def _proposals(catalog: Catalog, image: int) -> list[list[int]]:
    cv2.setNumThreads(1)
    return opencv_boxes(np.asarray(catalog.decode(image))).tolist()


def _bytes(folder: Path) -> int:
    """Of tables and arrays; the gallery is as large for many photos as for few."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".npy", ".parquet"))
