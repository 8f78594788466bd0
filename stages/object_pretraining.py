"""Stage 4: an encoder learned from the objects in photos: their regions, their masks, or boxes around them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stages.data.catalog import Catalog, Roots
from stages.data.policies import ImageViews, MaskedViews, ObjectCrops, OrlViews, Policy
from stages.data.views import PHOTOMETRIES
from stages.learning.backbones import Backbone
from stages.learning.loop import train
from stages.learning.settings import Training
from stages.methods.byol import BYOL
from stages.methods.densecl import DenseCL
from stages.methods.detcon import DetConB, DetConS
from stages.methods.moco import MoCo
from stages.methods.orl import ORL
from stages.methods.simclr import SimCLR
from stages.report import Report

METHODS = {
    "orl": ORL, "detcon_s": DetConS, "detcon_b": DetConB,
    "byol": BYOL, "simclr": SimCLR, "moco": MoCo, "densecl": DenseCL,
}  # fmt: skip


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
    regions: Path | None = None,
    correspondence: Path | None = None,
    masks: Path | None = None,
    init: Path | None = None,
    copies: Path | None = None,
    probe: Mapping[str, Any] | None = None,
) -> None:
    """Trains an encoder. Writes what `stages.learning.loop.train` writes and resumes as it does.

    Args:
        catalog: directory of a `catalog` artifact; its paths start from `root`.
        method: a name in METHODS.
        encoder: arguments of `Encoder`.
        views: `min_crop` and `photometry` as in `stages.image_pretraining`, and
            for orl `global_size` and `patch_size`, sides of the two views of the photo and of the four RoI views in
            pixels, and `jitter`, `neighbors`, `pairs`, see `OrlViews`;
            for all others `size` of a view in pixels;
            for detcon_s and detcon_b `regions`, how many are drawn for a view, and `pooling`, see `MaskedViews`;
            for the image-level methods `crops`, arguments of `ObjectCrops`, or without it the views of
            `stages.image_pretraining`.
        objective: arguments of the method.
        training, seed, device, workers: the fields of `Training`.
        regions, correspondence, masks: directories of the artifacts that hold the boxes, the pairs and the masks of
            this catalog, where the views are drawn from them: boxes and pairs for orl, as far as its weights ask for
            them; masks for detcon; boxes for `crops`.
        init: directory of an artifact whose encoder to start from; None starts from random weights (official code).
        copies: directory of a `copies` artifact to read instead of the photos.
        probe: see `train`, which also lists the errors.

    Raises:
        ValueError: the method is unknown, or what its views are drawn from is missing or of other photos.
    """
    if method not in METHODS:
        raise ValueError(f"object_pretraining has no method '{method}'. There are: {', '.join(METHODS)}.")
    photos = Catalog(catalog, root)
    if method == "orl":
        parts = [part for part, weight in objective["weights"].items() if weight > 0]
        policy = _orl_views(photos, views, parts, regions, correspondence)
    elif method in ("detcon_s", "detcon_b"):
        policy = _masked_views(photos, views, masks, encoder["backbone"])
    elif "crops" in views:
        policy = _object_crops(photos, views, regions, report)
    else:
        policy = _photo_views(photos, views, views["size"])
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


def _photo_views(photos: Catalog, views: Mapping[str, Any], size: int) -> ImageViews:
    small = {name: views[name] for name in ("small_views", "small_size", "small_scale") if name in views}
    return ImageViews(
        photos.sizes, size=size, scale=(views["min_crop"], 1.0), photometry=PHOTOMETRIES[views["photometry"]], **small
    )


def _orl_views(
    photos: Catalog, views: Mapping[str, Any], parts: list[str], regions: Path | None, correspondence: Path | None
) -> Policy:
    mined = {name: views[name] for name in ("neighbors", "pairs") if name in views}
    return OrlViews(
        _photo_views(photos, views, views["global_size"]), regions, correspondence, patch_size=views["patch_size"],
        jitter=views["jitter"], parts=parts, photometry=PHOTOMETRIES[views["photometry"]], **mined,
    )  # fmt: skip


def _masked_views(photos: Catalog, views: Mapping[str, Any], masks: Path | None, backbone: str) -> Policy:
    if masks is None:
        raise ValueError("DetCon contrasts regions and was given none: pass the directory of a `masks` artifact.")
    size = views["size"]
    with torch.device("meta"):  # only asked for its strides
        cells = Backbone(backbone).map_side(size)
    return MaskedViews(
        _photo_views(photos, views, size), masks,
        regions=views["regions"], pooling=views["pooling"], cells=cells,
    )  # fmt: skip


def _object_crops(photos: Catalog, views: Mapping[str, Any], regions: Path | None, report: Report) -> Policy:
    crops = ObjectCrops(
        photos.sizes, regions, size=views["size"], scene_min_crop=views["min_crop"],
        photometry=PHOTOMETRIES[views["photometry"]], **views["crops"],
    )  # fmt: skip
    report.metric(min_crop=crops.min_crop)
    if crops.box_share is not None:
        report.metric(box_share=crops.box_share)
    return crops
