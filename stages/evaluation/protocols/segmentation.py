"""Semantic segmentation: all of the network is trained with a small head to name each pixel's class.

Sources: MoCo (arXiv:1911.05722, section 4.2 and appendix), BYOL (arXiv:2006.07733, appendix D.4); DetCon
(arXiv:2103.10957, section 4) follows them: 45 epochs of PASCAL's train_aug2012 (10,582 photos, val2012 to test on), 160
epochs of Cityscapes' train_fine.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from stages.data.catalog import Catalog, Roots
from stages.data.workers import make_loader
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.metrics import mean_iou
from stages.evaluation.pictures import evenly_spread
from stages.evaluation.pyramid import Pyramid
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.tasks.dense.class_maps import ClassMaps
from stages.evaluation.tasks.dense.examples import EXAMPLES_FILE, SHOWN, Row, class_colours, save_examples
from stages.evaluation.tasks.dense.fcn import SegmentationNetwork
from stages.evaluation.tasks.dense.label_styles import IGNORED
from stages.evaluation.tasks.dense.segmentation_data import HeldOutPhotos, TrainingCrops
from stages.evaluation.tasks.loop import train_task
from stages.evaluation.tasks.optimizers import sgd
from stages.evaluation.tasks.schedules import multi_step
from stages.learning.devices import autocast, resolve_device, resolve_precision
from stages.learning.distributed import local_device, rank
from stages.learning.schedules import steps
from stages.report import Report

COUNTS_FILE = "class_counts.npy"
DROPS = (0.7, 0.9)  # shares of the training after which the rate is divided by ten

FIGURES = {
    "miou": Figure(
        "segmentation mIoU",
        "All weights are trained to name the class of each pixel; mean over the classes of intersection over union, "
        "over the pixels of all test photos.",
        metric="segmentation_miou",
    ),
    "pixel_accuracy": Figure("pixel accuracy", "Share of the test photos' labelled pixels that are called rightly."),
    "class_accuracy": Figure("class accuracy", "The same for the pixels of each class, mean over the classes."),
}


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    train: Path,
    train_root: Roots,
    train_maps: Path,
    test: Path,
    test_root: Roots,
    test_maps: Path,
    output_stride: int,
    crop: int,
    scales: tuple[float, float],
    short_side: int | None,
    inference: Literal["central", "whole"],
    training: str,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
    device: str,
    workers: int,
    precision: str = "auto",
    checkpoint_minutes: float = 10,
) -> None:
    """Trains, tests, and writes the outcome, `class_counts.npy` (see `metrics.mean_iou.class_counts`: (N, 3, K) int64,
    a row a test photo), `examples.png`, and the curves of the training. SGD with momentum 0.9, its rate divided by ten
    at 70 % and 90 %.

    Args:
        encoder: arguments of `open_backbone`.
        train, train_root, test, test_root: catalogs and the folders of their photos.
        train_maps, test_maps: the artifacts of step `class_maps` for them.
        output_stride: of the backbone, see `Pyramid`.
        crop: side of the training crops in pixels, best a multiple of the stride and 1 more.
        scales: bounds of the random scale of a training photo.
        short_side: pixels of a photo's shorter side at scale 1, in training and test; None leaves photos as they are.
        inference: what is seen of a test photo: the "central" square of `crop` pixels (BYOL) or all of it (MoCo).
        training: a duration such as "30000 steps" or "45 epochs", see `stages.learning.schedules.steps`.
        lr: the base rate, for this `batch_size`.

    Raises:
        ValueError: maps of other photos or classes, or a setting that does not fit.
        SystemExit: with status 75, after a checkpoint was saved on a signal.
    """
    photos, held_out = Catalog(train, train_root), Catalog(test, test_root)
    maps, held_out_maps = ClassMaps(train_maps), ClassMaps(test_maps)
    maps.check(len(photos))
    held_out_maps.check(len(held_out))
    if maps.names != held_out_maps.names:
        raise ValueError(
            f"{train_maps} has {len(maps.names)} classes and {test_maps} has {len(held_out_maps.names)}, and they must "
            "be the same in the same order: label both splits in one style."
        )
    data = TrainingCrops(photos, maps, side=crop, scales=scales, short_side=short_side, seed=seed)
    settings: dict[str, Any] = {
        "output_stride": output_stride, "crop": crop, "scales": list(scales), "short_side": short_side,
        "training": training, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "seed": seed,
    }  # fmt: skip
    total = steps(training, images=len(photos), batch_size=batch_size)
    pyramid = Pyramid(open_backbone(**encoder), output_stride=output_stride)
    torch.manual_seed(seed)  # the head starts the same for all encoders of one architecture
    model = SegmentationNetwork(pyramid, classes=len(maps.names))
    train_task(
        model, data, out=out, report=report, steps=total, batch_size=batch_size,
        optimizer=partial(sgd, lr=lr, weight_decay=weight_decay),
        schedule=partial(multi_step, drops=[int(share * total) for share in DROPS]),
        settings=settings | {"backbone": pyramid.backbone.name}, seed=seed, device=device, workers=workers,
        precision=precision, checkpoint_minutes=checkpoint_minutes,
    )  # fmt: skip
    if rank() > 0:
        return
    shown = HeldOutPhotos(
        held_out, held_out_maps, central=crop if inference == "central" else None, short_side=short_side
    )
    counts, examples = tested(
        model, shown, classes=len(maps.names), device=device, precision=precision, workers=workers, report=report
    )
    np.save(out / COUNTS_FILE, counts)
    save_examples(examples, ("photo", "labelled", "predicted"), out / EXAMPLES_FILE)
    estimates = mean_iou.estimates(counts, maps.names, seed=seed)
    save_outcome(_outcome(estimates, maps.names, test.name, settings | {"inference": inference}), out)
    report.metric(segmentation_miou=estimates["miou"].value, pixel_accuracy=estimates["pixel_accuracy"].value)


@torch.inference_mode()
def tested(
    model: SegmentationNetwork,
    photos: HeldOutPhotos,
    *,
    classes: int,
    device: str,
    precision: str,
    workers: int,
    report: Report,
) -> tuple[np.ndarray, list[Row]]:
    """The pixels of each class in each photo, (N, 3, K) int64: see `mean_iou.class_counts`; and some photos to show."""
    place = local_device(resolve_device(device))
    numbers, _ = resolve_precision(precision, place)
    model = model.to(place).eval()
    counts = np.zeros((len(photos), 3, classes), np.int64)
    shown, examples = set(evenly_spread(len(photos), SHOWN).tolist()), []
    for image, sample in enumerate(make_loader(photos, workers, batch_size=None)):
        labels = sample["labels"].to(place)
        with autocast(numbers, place):
            scores = model.scores(sample["pixels"].to(place)[None])
        if scores.shape[-2:] != labels.shape:  # the photo was tested at another scale than it was labelled at
            scores = F.interpolate(scores, labels.shape, mode="bilinear", align_corners=False)
        predicted = scores[0].argmax(dim=0)
        counts[image] = mean_iou.class_counts(predicted, labels, classes=classes, ignored=IGNORED).cpu().numpy()
        if image in shown:
            both = (class_colours(each.cpu().numpy(), classes) for each in (labels, predicted))
            examples.append((sample["pixels"].permute(1, 2, 0).numpy(), *both))
        report.progress(image + 1, len(photos), "test photos")
    return counts, examples


def _outcome(estimates: Mapping[str, Estimate], names: list[str], data: str, settings: dict[str, Any]) -> Outcome:
    absent = [name for name in names if f"iou/{name}" not in estimates]
    notes = []
    if absent:
        notes.append(f"{len(absent)} classes are in no test photo and not predicted either, and left out: "
                     f"{', '.join(absent)}.")  # fmt: skip
    values = {figure: {THIS: estimate} for figure, estimate in estimates.items()}
    return Outcome("segmentation", data, settings | {"classes": len(names)}, FIGURES, values, notes)
