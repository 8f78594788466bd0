"""Stage 1: an encoder learned from crops of whole photos."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews
from stages.learning.loop import train
from stages.methods.byol import BYOL
from stages.report import Report

METHODS = {"byol": BYOL}


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Path,
    method: str,
    backbone: str,
    projector_hidden: int,
    projector_out: int,
    predictor_hidden: int,
    size: int,
    min_crop: float,
    epochs: str,
    warmup: str,
    batch_size: int,
    base_lr: float,
    momentum: float,
    weight_decay: float,
    tau: float,
    precision: str,
    log_every: int,
    checkpoint_minutes: float,
    scaled_decode: bool,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Trains from random weights. Writes what `stages.learning.loop.train` writes and resumes as it does.

    Args:
        catalog: directory of a `catalog` artifact; its paths start from `root`.
        method: a name in METHODS.
        backbone, projector_hidden, projector_out: see `Encoder`.
        predictor_hidden: width of the predictor's hidden layer.
        size: side of the views in pixels.
        min_crop: smallest area of a crop, as a share of the photo; the largest is the whole photo.
        tau: EMA rate of the target at the start; it rises to 1.

    The others are those of `train`, which also lists the errors.
    """
    if method not in METHODS:
        raise ValueError(f"image_pretraining has no method '{method}'. There are: {', '.join(METHODS)}.")
    photos = Catalog(catalog, root)
    train(
        partial(METHODS[method], predictor_hidden=predictor_hidden, tau=tau),
        photos,
        ImageViews(photos.sizes, size=size, scale=(min_crop, 1.0)),
        out=out,
        report=report,
        settings={
            "method": method,
            "predictor_hidden": predictor_hidden,
            "tau": tau,
            "size": size,
            "min_crop": min_crop,
        },
        encoder={"backbone": backbone, "projector_hidden": projector_hidden, "projector_out": projector_out},
        init=None,
        epochs=epochs,
        warmup=warmup,
        batch_size=batch_size,
        base_lr=base_lr,
        momentum=momentum,
        weight_decay=weight_decay,
        precision=precision,
        log_every=log_every,
        checkpoint_minutes=checkpoint_minutes,
        scaled_decode=scaled_decode,
        seed=seed,
        device=device,
        workers=workers,
    )
