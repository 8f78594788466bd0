"""Stage 4: an encoder learned from photos, their regions, and matching regions of other photos."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stages.data.catalog import Catalog, Roots
from stages.data.policies import ImageViews, OrlViews
from stages.data.views import PHOTOMETRIES
from stages.learning.loop import train
from stages.learning.settings import Training
from stages.methods.orl import ORL
from stages.report import Report

METHODS = {"orl": ORL}


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    regions: Path,
    correspondence: Path,
    method: str,
    encoder: Mapping[str, Any],
    views: Mapping[str, Any],
    objective: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    device: str,
    workers: int,
    init: Path | None = None,
    copies: Path | None = None,
    probe: Mapping[str, Any] | None = None,
) -> None:
    """Trains an encoder. Writes what `stages.learning.loop.train` writes and resumes as it does.

    Args:
        catalog: directory of a `catalog` artifact; its paths start from `root`.
        regions, correspondence: directories of the artifacts that hold the boxes and the pairs of this catalog.
        method: a name in METHODS.
        encoder: arguments of `Encoder`.
        views: `global_size` and `patch_size`, sides of the two views of the photo and of the four RoI views in pixels;
            `jitter`, which intra-RoI boxes are jittered (see `OrlViews`); `min_crop` and `photometry` as in
            `stages.image_pretraining`.
        objective: arguments of the method.
        training, seed, device, workers: the fields of `Training`.
        init: directory of an artifact whose encoder to start from; None starts from random weights (official code).
        copies: directory of a `copies` artifact to read instead of the photos.
        probe: see `train`, which also lists the errors.
    """
    if method not in METHODS:
        raise ValueError(f"object_pretraining has no method '{method}'. There are: {', '.join(METHODS)}.")
    photos = Catalog(catalog, root)
    photometry = PHOTOMETRIES[views["photometry"]]
    photo_views = ImageViews(
        photos.sizes, size=views["global_size"], scale=(views["min_crop"], 1.0), photometry=photometry
    )
    policy = OrlViews(
        photo_views,
        regions,
        correspondence,
        patch_size=views["patch_size"],
        jitter=views["jitter"],
        photometry=photometry,
    )
    train(
        partial(METHODS[method], **objective),
        photos,
        policy,
        out=out,
        report=report,
        settings={"method": method, **views, **objective},
        encoder=encoder,
        init=init,
        training=Training(**training, seed=seed, device=device, workers=workers),
        copies=copies,
        probe=probe,
    )
