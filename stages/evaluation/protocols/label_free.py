"""What can be said of an encoder without labels: alignment and uniformity, spread, and how stable neighbours are.

All by the global average of the backbone's last feature map, whatever training compared. Figures of spread are those of
`stages.evaluation.spread`, views and their ranks those of `stages.evaluation.view_retrieval`. None of them says that an
encoder is good: they show a collapse, and whether two checkpoints still differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.data.catalog import Catalog, Roots
from stages.evaluation import spread, view_retrieval
from stages.evaluation.drawn_features import drawn_features
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.features import GAP, open_features
from stages.evaluation.metrics.hypersphere import alignment, uniformity
from stages.evaluation.metrics.shared_neighbors import shared_neighbors
from stages.evaluation.pictures import evenly_spread
from stages.evaluation.saved import THIS, save_outcome
from stages.learning.metrics import effective_rank
from stages.process import available_cores
from stages.report import Report

FIGURES = {
    "alignment": Figure(
        "alignment",
        "Mean squared distance of the L2-normalised features of two views of a photo (Wang & Isola 2020); 0 is best.",
        metric="alignment",
        percent=False,
        ranked=False,
    ),
    "uniformity": Figure(
        "uniformity",
        "log of the mean of exp(-2 d^2) over pairs of photos (Wang & Isola 2020): -4 is evenly spread, 0 collapsed. To "
        "be read beside alignment: each alone is easy to reach.",
        metric="uniformity",
        percent=False,
        ranked=False,
    ),
    "view_rank": view_retrieval.FIGURES["rank"],
    "view_retrieval": view_retrieval.FIGURES["top1"],
    **{name: spread.FIGURES[name] for name in ("effective_rank", "std", "mean_cosine", "collapsed")},
    "shared_neighbors": Figure(
        "shared neighbours",
        "Share of a photo's nearest neighbours that are also its nearest by the reference: another encoder, or another "
        "checkpoint of this one.",
        metric="shared_neighbors",
        ranked=False,
    ),
}


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    features_test: Path,
    reference: Path | None,
    test: Path,
    test_root: Roots,
    view_size: int,
    max_images: int,
    neighbors: int,
    batch_size: int,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Writes `views.npy`, (2 M, C) float32, features of two views of each of M photos, and the outcome.

    Args:
        encoder: arguments of `open_backbone`.
        features_test: artifact of step `features` on `test`, with the depth "gap".
        reference: the same of another encoder on the same photos; None: there is none to compare neighbours with.
        test, test_root: a catalog, which needs no labels, and the folder of its photos.
        view_size: side of augmented views (BYOL's), pixels.
        max_images: photos that are used at most, evenly spread; at least 2. Neighbours are looked for among all.
        neighbors: how many of a photo are compared with the reference's.
        workers: processes that draw views; 0: one a core.

    Raises:
        ValueError: fewer than two photos, or features of other photos.
    """
    catalog = Catalog(test, test_root)
    chosen = evenly_spread(len(catalog), max_images)
    if len(chosen) < 2:
        raise ValueError(
            f"figures without labels compare photos and need two, but {test_root} has {len(catalog)} and at most "
            f"{max_images} are used. Add photos or raise label_free.max_images."
        )
    views = view_retrieval.photo_views(catalog, chosen, size=view_size, seed=seed)
    rows = drawn_features(
        out / "views.npy", out / "scratch" / "views", open_backbone(**encoder), catalog, views.__getitem__, len(views),
        batch_size=batch_size, device=device, workers=workers or available_cores(), report=report,
    )  # fmt: skip
    photos = open_features(features_test, GAP, catalog)
    found = view_estimates(rows, seed=seed) | spread_estimates(photos[chosen])
    if reference is not None:
        others = open_features(reference, GAP, catalog)
        found["shared_neighbors"] = shared_neighbors(photos, others, chosen, neighbors, seed=seed)
    figures = {key: figure for key, figure in FIGURES.items() if key in found}
    values = {key: {THIS: found[key]} for key in figures}
    settings = {
        "photos": len(chosen),
        "view_size": view_size,
        "augmentation": "byol",
        "neighbors": neighbors if reference is not None else None,
        "reference": None if reference is None else reference.name,
        "collapsed_below": spread.COLLAPSED_STD,
    }
    save_outcome(Outcome("label_free", test.name, settings, figures, values), out)
    report.metric(**{figure.metric: found[key].value for key, figure in figures.items() if figure.metric})


def view_estimates(rows: np.ndarray, *, seed: int) -> dict[str, Estimate]:
    """Of features of views, (2 M, D): rows 2i and 2i + 1 are of one photo."""
    return {
        "alignment": alignment(rows[0::2], rows[1::2], seed=seed),
        "uniformity": uniformity(rows[0::2], seed=seed),
        "view_rank": view_retrieval.mean_rank(view_retrieval.partner_rank(rows), seed=seed),
        "view_retrieval": view_retrieval.share(view_retrieval.partner_found(rows), seed=seed),
    }


def spread_estimates(rows: np.ndarray) -> dict[str, Estimate]:
    """Of features of whole photos, (M, D), as `stages.evaluation.spread` has them of an encoder with a projector."""
    std = spread.relative_std(rows)
    return {
        "effective_rank": Estimate(effective_rank(torch.from_numpy(rows)).item()),
        "std": Estimate(std),
        "mean_cosine": Estimate(spread.mean_cosine(rows)),
        "collapsed": Estimate(float(std < spread.COLLAPSED_STD)),
    }
