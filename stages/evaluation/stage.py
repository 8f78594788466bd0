"""Stage 5, evaluation: what the frozen encoders know, each beside an untrained one and beside guessing."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stages.data.catalog import Catalog, Roots
from stages.data.objects import measured_objects, object_views
from stages.data.views import View
from stages.evaluation import linear_svm, object_neighbors, spread, view_retrieval
from stages.evaluation.embeddings import Embeddings, embed, load_with_baselines
from stages.evaluation.estimates import Outcome
from stages.evaluation.pictures import central_views, draw, evenly_spread
from stages.evaluation.plot import draw_comparison
from stages.evaluation.results import flat_metrics, write_report, write_results
from stages.learning.devices import resolve_device
from stages.learning.encoder import Encoder
from stages.process import pool
from stages.report import Report

# Starting a worker takes as long as drawing about this many pictures: a smaller job is done in this process.
_PICTURES_A_WORKER = 2000

log = logging.getLogger(__name__)


def run(
    *,
    out: Path,
    report: Report,
    encoders: dict[str, Path],
    train: Path | None,
    train_root: Roots | None,
    test: Path | None,
    test_root: Roots | None,
    catalog: Path,
    root: Roots,
    resize: int,
    crop: int,
    object_size: int,
    view_size: int,
    costs: Sequence[float],
    batch_size: int,
    max_images: int,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Measures every encoder and writes `results.json`, `report.md` and `comparison.png`.

    Args:
        encoders: name -> directory of a trained encoder. An untrained one of the same architecture, "random", joins.
        train, train_root, test, test_root: labelled catalogs and the folders of their photos; None: only the figures
            that need no labels.
        catalog, root: the photos that were trained on, for the figures on spread, and on view retrieval without `test`.
        resize, crop: shorter side, then centre crop of whole photos; pixels. `crop` must not exceed `resize`.
        object_size, view_size: side of labelled objects and of augmented views; pixels.
        costs: of the SVM, to choose from by cross-validation.
        workers: processes that draw pictures and threads that fit classifiers; 0: one a core.
        max_images: photos that the figures without labels use at most, evenly spread over the catalog; at least 2.

    Raises:
        ValueError: there is no encoder, only one of `train` and `test`, too few photos, or labels that don't fit.
    """
    if not encoders:
        raise ValueError("there is no encoder to evaluate: give at least one directory with an encoder.safetensors.")
    if (train is None) != (test is None):
        raise ValueError("`train` and `test` go together: give both labelled catalogs or neither.")
    if crop > resize:
        raise ValueError(f"crop={crop} is larger than resize={resize}: lower crop or raise resize.")
    photos = Catalog(catalog, root)
    labelled = None
    if train is not None and test is not None and train_root is not None and test_root is not None:
        labelled = Catalog(train, train_root), Catalog(test, test_root)
        linear_svm.measurable_classes(*labelled)  # raises now, not after hours of embedding

    compared = load_with_baselines(encoders, seed)
    passes = _passes(photos, labelled, resize=resize, crop=crop, object_size=object_size, view_size=view_size,
                     max_images=max_images, seed=seed)  # fmt: skip
    pictures = sum(each.pictures for each in passes.values())
    cores = workers or os.cpu_count() or 1
    place = resolve_device(device)
    with pool(min(cores, pictures // _PICTURES_A_WORKER)) as processes:
        embedded = {
            name: _embed_pass(each, compared, processes, batch_size, place, report) for name, each in passes.items()
        }

    outcomes: list[Outcome] = []
    if labelled is not None:
        train_photos, test_photos = embedded["train photos"], embedded["test photos"]
        outcomes = [
            linear_svm.evaluate(train_photos, test_photos, *labelled, resize=resize, crop=crop, costs=costs, seed=seed,
                                workers=cores, report=report),
            object_neighbors.evaluate(embedded["objects"], labelled[1], object_size=object_size, seed=seed),
        ]  # fmt: skip
    shown = passes["views"].catalog
    outcomes.append(view_retrieval.evaluate(embedded["views"], shown, view_size=view_size, seed=seed))
    outcomes.append(spread.evaluate(embedded["photos"], photos, resize=resize, crop=crop))

    write_results(outcomes, seed, out / "results.json")
    write_report(outcomes, list(compared), seed, out / "report.md")
    draw_comparison(outcomes, list(compared), out / "comparison.png")
    report.metric(**flat_metrics(outcomes))


@dataclass(frozen=True)
class _Pass:
    """Pictures that all encoders are shown, and the catalog they are from."""

    name: str
    catalog: Catalog
    views: list[list[View]]

    @property
    def pictures(self) -> int:
        return sum(map(len, self.views))


def _passes(
    photos: Catalog,
    labelled: tuple[Catalog, Catalog] | None,
    *,
    resize: int,
    crop: int,
    object_size: int,
    view_size: int,
    max_images: int,
    seed: int,
) -> dict[str, _Pass]:
    def middle(name: str, catalog: Catalog, at_most: int) -> _Pass:
        return _Pass(name, catalog, central_views(catalog, _chosen(catalog, at_most), resize=resize, crop=crop))

    passes = [middle("photos", photos, max_images)]
    pictured = photos
    if labelled is not None:
        train, test = labelled
        objects = object_views(measured_objects(test), object_size)
        passes += [middle("train photos", train, len(train)), middle("test photos", test, len(test))]
        passes.append(_Pass("objects", test, objects))
        pictured = test
    views = view_retrieval.photo_views(pictured, _chosen(pictured, max_images), size=view_size, seed=seed)
    passes.append(_Pass("views", pictured, views))
    return {each.name: each for each in passes}


def _chosen(catalog: Catalog, at_most: int) -> np.ndarray:
    chosen = evenly_spread(len(catalog), at_most)
    if len(chosen) < 2:
        raise ValueError(
            f"evaluation compares photos with each other and needs two, but {catalog.root} has {len(catalog)} and "
            f"at most {at_most} are used. Add photos or raise evaluation.max_images."
        )
    return chosen


def _embed_pass(
    shown: _Pass,
    encoders: dict[str, Encoder],
    processes: Executor,
    batch_size: int,
    device: torch.device,
    report: Report,
) -> dict[str, Embeddings]:
    log.info("embedding %d %s with %d encoders", shown.pictures, shown.name, len(encoders))
    return embed(
        encoders, draw(processes, shown.catalog, shown.views),
        total=shown.pictures, unit=shown.name, batch_size=batch_size, device=device, report=report,
    )  # fmt: skip
