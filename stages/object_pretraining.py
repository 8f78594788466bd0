"""Stage 4: an encoder learned from photos, their regions, and matching regions of other photos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from stages.data.catalog import Catalog
from stages.data.policies import ImageViews, OrlViews
from stages.learning.loop import train
from stages.methods.orl import ORL
from stages.report import Report

METHODS = {"orl": ORL}
INITS = ("scratch", "image_pretraining")


def run(
    *,
    out: Path,
    report: Report,
    catalog: Path,
    root: Path,
    regions: Path,
    correspondence: Path,
    encoder: Path | None = None,
    method: str,
    init: str,
    backbone: str,
    projector_hidden: int,
    projector_out: int,
    predictor_hidden: int,
    global_size: int,
    patch_size: int,
    min_crop: float,
    jitter: Literal["one", "both"],
    weight_image: float,
    weight_intra: float,
    weight_inter: float,
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
    """Trains an encoder. Writes what `stages.learning.loop.train` writes and resumes as it does.

    Args:
        catalog: directory of a `catalog` artifact; its paths start from `root`.
        regions, correspondence: directories of the artifacts that hold the boxes and the pairs of this catalog.
        encoder: directory of the encoder to start from; needed for init "image_pretraining" and not used otherwise.
        method: a name in METHODS.
        init: "scratch" (official code) or "image_pretraining", the weights in `encoder`.
        backbone, projector_hidden, projector_out: see `Encoder`.
        predictor_hidden: width of the hidden layer of each predictor.
        global_size: side of the two views of the photo in pixels.
        patch_size: side of the four RoI views in pixels.
        min_crop: smallest area of a crop of the photo, as a share of it.
        jitter: which intra-RoI boxes are jittered, see `OrlViews`.
        weight_image, weight_intra, weight_inter: factors of the three parts of the loss; 0 leaves a part out.
        tau: EMA rate of the target at the start; it rises to 1.

    The others are those of `train`, which also lists the errors.
    """
    if method not in METHODS:
        raise ValueError(f"object_pretraining has no method '{method}'. There are: {', '.join(METHODS)}.")
    if init not in INITS:
        raise ValueError(f"init '{init}' is not known. Choose one of {', '.join(INITS)}.")
    if init == "image_pretraining" and encoder is None:
        raise ValueError("init 'image_pretraining' needs `encoder`, the directory of an image_pretraining artifact.")
    weights = {"image": weight_image, "intra": weight_intra, "inter": weight_inter}
    photos = Catalog(catalog, root)
    photo_views = ImageViews(photos.sizes, size=global_size, scale=(min_crop, 1.0))
    train(
        partial(METHODS[method], predictor_hidden=predictor_hidden, tau=tau, weights=weights),
        photos,
        OrlViews.from_artifacts(photo_views, regions, correspondence, patch_size=patch_size, jitter=jitter),
        out=out,
        report=report,
        settings={
            "method": method,
            "init": init,
            "predictor_hidden": predictor_hidden,
            "tau": tau,
            "global_size": global_size,
            "patch_size": patch_size,
            "min_crop": min_crop,
            "jitter": jitter,
            "weights": weights,
        },
        encoder={"backbone": backbone, "projector_hidden": projector_hidden, "projector_out": projector_out},
        init=encoder if init == "image_pretraining" else None,
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
