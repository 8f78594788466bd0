"""Stage 1: an encoder learned from crops of whole photos."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stages.data.catalog import Catalog, Roots
from stages.data.policies import ImageViews
from stages.data.views import PHOTOMETRIES
from stages.learning.loop import train
from stages.learning.settings import Training
from stages.methods.byol import BYOL
from stages.methods.densecl import DenseCL
from stages.methods.moco import MoCo
from stages.methods.simclr import SimCLR
from stages.report import Report

METHODS = {"byol": BYOL, "simclr": SimCLR, "moco": MoCo, "densecl": DenseCL}


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Roots,
    method: str,
    encoder: Mapping[str, Any],
    views: Mapping[str, Any],
    objective: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    device: str,
    workers: int,
    copies: Path | None = None,
    probe: Mapping[str, Any] | None = None,
) -> None:
    """Trains from random weights. Writes what `stages.learning.loop.train` writes and resumes as it does.

    Args:
        catalog: directory of a `catalog` artifact; its paths start from `root`.
        method: a name in METHODS.
        encoder: arguments of `Encoder`.
        views: `size` of a view in pixels; `min_crop`, the smallest area of a crop as a share of the photo, the largest
            being the whole photo; `photometry`, a name in PHOTOMETRIES; and where there are small views `small_views`,
            `small_size` and `small_scale`, see `ImageViews`.
        objective: arguments of the method.
        training, seed, device, workers: the fields of `Training`.
        copies: directory of a `copies` artifact to read instead of the photos.
        probe: see `train`, which also lists the errors.
    """
    if method not in METHODS:
        raise ValueError(f"image_pretraining has no method '{method}'. There are: {', '.join(METHODS)}.")
    photos = Catalog(catalog, root)
    small = {name: views[name] for name in ("small_views", "small_size", "small_scale") if name in views}
    policy = ImageViews(
        photos.sizes,
        size=views["size"],
        scale=(views["min_crop"], 1.0),
        photometry=PHOTOMETRIES[views["photometry"]],
        **small,
    )
    train(
        partial(METHODS[method], **objective),
        photos,
        policy,
        out=out,
        report=report,
        settings={"method": method, **views, **objective},
        encoder=encoder,
        init=None,
        training=Training(**training, seed=seed, device=device, workers=workers),
        copies=copies,
        probe=probe,
    )
