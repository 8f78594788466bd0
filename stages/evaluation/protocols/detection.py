"""Object detection and instance segmentation: a pretrained backbone under a detector that is trained on boxes or masks.

Sources: ORL (arXiv:2106.11952, section 4.2 and appendix B: Mask R-CNN R50-FPN, 90,000 steps of 16 photos, 0.02, divided
by ten after 60,000 and 80,000) and the Detectron2 configurations it names; MoCo (arXiv:1911.05722, sections 4.2.1 and
4.2.2: C4 on VOC and COCO); DetCon (arXiv:2103.10957, section 4: 12 or 24 epochs, drops at the same shares, and with a
frozen backbone); Odin and VITO (FCOS, also on LVIS).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.data.catalog import Catalog, Roots
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Estimate, Figure, Outcome, resample_counts
from stages.evaluation.metrics.coco_ap import DETECTIONS_A_PHOTO, Federation, Kind, check_truth, coco_ap
from stages.evaluation.metrics.voc_ap import THRESHOLDS, Rule, voc_ap
from stages.evaluation.photo_labels import shared_categories
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.tasks.detection.batch_norm import measure_statistics
from stages.evaluation.tasks.detection.detectors import Architecture, build_detector
from stages.evaluation.tasks.detection.inference import DETECTIONS_FILE, detect_photos, read_detections
from stages.evaluation.tasks.detection.lvis import read_federation
from stages.evaluation.tasks.detection.objects import write_objects
from stages.evaluation.tasks.detection.photos import TrainingPhotos
from stages.evaluation.tasks.loop import train_task
from stages.evaluation.tasks.optimizers import sgd
from stages.evaluation.tasks.schedules import multi_step
from stages.learning.distributed import any_process, rank
from stages.learning.schedules import steps
from stages.report import Report

Metric = Literal["coco", "lvis", "voc_11_point", "voc_area"]

_RULES: dict[str, Rule] = {"voc_11_point": "11_point", "voc_area": "area"}
_MAIN = ("ap", "ap50", "ap75")  # of boxes and of masks: kept with the artifact
_LVIS_GROUPS = {"r": "rare", "c": "common", "f": "frequent"}


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    train: Path,
    train_root: Roots,
    test: Path,
    test_root: Roots,
    architecture: Architecture,
    masks: bool,
    frozen: bool,
    metric: Metric,
    annotations: Path | None,
    short_sides: Sequence[int],
    longest: int,
    test_short_side: int,
    training: str,
    drops: Sequence[float],
    warmup: str,
    batch_size: int,
    lr: float,
    weight_decay: float,
    regions: int,
    proposals: int,
    detections: int,
    precise_batches: int,
    seed: int,
    device: str,
    workers: int,
    precision: str = "auto",
    checkpoint_minutes: float = 10,
) -> None:
    """Trains, detects, and writes the outcome, `detections.parquet` (see `tasks.detection.inference`) and the curves of
    the training. SGD with momentum 0.9, divided by ten at `drops`, no weight decay of batch norms (Detectron2).

    Args:
        encoder: arguments of `open_backbone`.
        train, train_root, test, test_root: catalogs with boxes and the folders of their photos.
        architecture, masks, frozen, regions, proposals, detections: see `build_detector`.
        metric: "coco": AP of boxes, with `masks` also of masks, by COCO's rules, and for objects of three sizes.
            "lvis": the same by LVIS' rules, and for categories of three frequencies. "voc_11_point", "voc_area": AP,
            AP50 and AP75 of boxes by PASCAL VOC's rules, see `metrics.voc_ap`, with bootstrap intervals over photos.
        annotations: for "lvis" the JSON file that the test catalog was made of; else None.
        short_sides, longest: pixels of a training photo's shorter side, drawn evenly, unless the longer one would
            exceed `longest`. test_short_side: that of test photos.
        training, warmup: durations such as "90000 steps" or "12 epochs", see `stages.learning.schedules.steps`; an
            epoch is all training photos with objects.
        drops: shares of the training, such as 2/3 and 8/9.
        lr: the base rate, for this `batch_size`.
        precise_batches: from which the statistics of batch norms are measured after training; 0 keeps the running ones.

    Raises:
        ValueError: catalogs without boxes or masks, of different categories, or a setting that does not fit.
        SystemExit: with status 75, after a checkpoint was saved on a signal.
    """
    photos, held_out = Catalog(train, train_root), Catalog(test, test_root)
    categories = shared_categories(photos, held_out)
    if (metric == "lvis") != (annotations is not None):
        raise ValueError(f"metric={metric} with annotations={annotations}: LVIS' file goes with metric 'lvis' alone.")
    # What can't be measured shows now, not after days; by a catalog of its own, which would keep the labels in memory.
    check_truth(Catalog(test, test_root).labels, kind="masks" if masks else "boxes")
    federation = None if annotations is None else read_federation(annotations, held_out)
    if rank() == 0:
        write_objects(photos, out / "scratch" / "objects", masks=masks)
    any_process(False)  # waits for the first one
    objects = write_objects(photos, out / "scratch" / "objects", masks=masks)
    data = TrainingPhotos(photos, objects, short_sides=short_sides, longest=longest, masks=masks, seed=seed)

    settings: dict[str, Any] = {
        "architecture": architecture, "masks": masks, "frozen": frozen, "short_sides": list(short_sides),
        "longest": longest, "training": training, "drops": list(drops), "warmup": warmup, "batch_size": batch_size,
        "lr": lr, "weight_decay": weight_decay, "regions": regions, "proposals": proposals, "seed": seed,
    }  # fmt: skip
    total = steps(training, images=len(data), batch_size=batch_size)
    backbone = open_backbone(**encoder)
    torch.manual_seed(seed)  # what is not pretrained starts the same for all encoders
    detector = build_detector(
        backbone, len(categories), architecture=architecture, masks=masks, frozen=frozen, regions=regions,
        proposals=proposals, detections=detections,
    )  # fmt: skip
    if not (out / DETECTIONS_FILE).exists():
        train_task(
            detector, data, out=out, report=report, steps=total, batch_size=batch_size,
            optimizer=partial(sgd, lr=lr, groups=partial(_groups, weight_decay=weight_decay)),
            schedule=partial(
                multi_step, drops=[round(share * total) for share in drops],
                warmup=steps(warmup, images=len(data), batch_size=batch_size),
            ),
            settings=settings | {"backbone": backbone.name}, seed=seed, device=device, workers=workers,
            precision=precision, checkpoint_minutes=checkpoint_minutes,
        )  # fmt: skip
        if precise_batches:
            measure_statistics(
                detector, data, batches=precise_batches, batch_size=batch_size, steps=total, seed=seed, workers=workers
            )
    found = detect_photos(
        detector, held_out, out=out, report=report, short_side=test_short_side, longest=longest, masks=masks,
        workers=workers,
    )  # fmt: skip
    if rank() > 0:
        return
    measured = _measure(read_detections(found), held_out, metric, masks, detections, federation, seed)
    settings |= {"metric": metric, "test_short_side": test_short_side, "detections": detections,
                 "precise_batches": precise_batches}  # fmt: skip
    save_outcome(measured.outcome(test.name, settings, categories), out)
    report.metric(**{name: measured.values[name].value for name in measured.figures if name.endswith(_MAIN)})


def _measure(
    table: pd.DataFrame,
    catalog: Catalog,
    metric: Metric,
    masks: bool,
    detections: int,
    federation: Federation | None,
    seed: int,
) -> _Measured:
    if metric in _RULES:
        return _by_voc(catalog, table, _RULES[metric], seed)
    measured = _Measured({}, {})
    kinds: tuple[Kind, ...] = ("boxes", "masks") if masks else ("boxes",)
    for kind in kinds:
        ap = coco_ap(
            catalog.labels, table, catalog.sizes, len(catalog.categories), kind=kind,
            limit=DETECTIONS_A_PHOTO if federation is None else detections, federation=federation,
        )  # fmt: skip
        groups = None if federation is None else federation.frequency
        measured.add(_by_coco(kind, ap.figures, ap.of_category, catalog.categories, groups))
    return measured


def _groups(model: nn.Module, weight_decay: float) -> Iterator[Mapping[str, Any]]:
    norms = {p for each in model.modules() if isinstance(each, _BatchNorm) for p in each.parameters(recurse=False)}
    for of_norm, decay in ((False, weight_decay), (True, 0.0)):
        # In the order of the model, which a checkpoint of the optimizer refers to.
        yield {"params": [p for p in model.parameters() if (p in norms) == of_norm], "weight_decay": decay}


@dataclass
class _Measured:
    """Figures and their values; values without a figure are details."""

    figures: dict[str, Figure]
    values: dict[str, Estimate]

    def add(self, other: _Measured) -> None:
        self.figures |= other.figures
        self.values |= other.values

    def outcome(self, data: str, settings: dict[str, Any], categories: Sequence[str]) -> Outcome:
        values = {name: {THIS: estimate} for name, estimate in self.values.items()}
        absent = [name for name in categories if f"ap {name}" not in self.values]
        notes = ["A detector that guesses has an AP of next to 0, so no chance level is given."]
        if absent:
            notes.append(f"{len(absent)} classes have no object in the test photos and no AP: {', '.join(absent)}.")
        if all(estimate.resamples is None for estimate in self.values.values()):
            notes.append("AP by COCO's rules has no interval: each resample would be a whole evaluation.")
        return Outcome("detection", data, settings, self.figures, values, notes)


_TITLES = {"boxes": "box", "masks": "mask"}
_MEANINGS = {
    "ap": "mean over categories and over overlaps of 0.5 to 0.95",
    "ap50": "at an overlap of 0.5",
    "ap75": "at an overlap of 0.75",
    "ap_small": "for objects of less than 32 x 32 pixels",
    "ap_medium": "for objects from 32 x 32 to 96 x 96 pixels",
    "ap_large": "for objects of more than 96 x 96 pixels",
    "ap_rare": "for categories in at most 10 training photos",
    "ap_common": "for categories in 11 to 100 training photos",
    "ap_frequent": "for categories in more than 100 training photos",
}


def _figure(kind: Kind, name: str) -> Figure:
    title = f"{_TITLES[kind]} {name.replace('_', ' ').replace('ap', 'AP', 1)}"
    meaning = f"The backbone under a detector: average precision of its {kind}, {_MEANINGS[name]}."
    return Figure(title, meaning, metric=f"{_TITLES[kind]}_ap" if name == "ap" else None)


def _by_coco(
    kind: Kind,
    figures: Mapping[str, float],
    of_category: np.ndarray,
    categories: Sequence[str],
    groups: Sequence[str] | None,
) -> _Measured:
    """What has no object is left out."""
    named = dict(figures)
    if groups is not None:
        for letter, group in _LVIS_GROUPS.items():
            members = of_category[[each == letter for each in groups]]
            members = members[np.isfinite(members)]
            named[f"ap_{group}"] = float(members.mean()) if len(members) else math.nan
    named = {name: value for name, value in named.items() if math.isfinite(value)}
    values = {f"{_TITLES[kind]}_{name}": Estimate(value) for name, value in named.items()}
    prefix = "ap" if kind == "boxes" else "mask ap"
    for category, value in zip(categories, of_category.tolist(), strict=True):
        if math.isfinite(value):
            values[f"{prefix} {category}"] = Estimate(value)
    return _Measured({f"{_TITLES[kind]}_{name}": _figure(kind, name) for name in named}, values)


def _by_voc(catalog: Catalog, table: pd.DataFrame, rule: Rule, seed: int) -> _Measured:
    counts = resample_counts(len(catalog), seed)
    precision = voc_ap(catalog.labels, table, len(catalog.categories), rule=rule)  # (K, 10)
    resampled = voc_ap(catalog.labels, table, len(catalog.categories), rule=rule, counts=counts)  # (R, K, 10)
    at = {"ap": slice(None), "ap50": THRESHOLDS == 0.5, "ap75": THRESHOLDS == 0.75}
    known = np.isfinite(precision[:, 0])
    values = {
        f"box_{name}": Estimate(
            float(precision[known][:, chosen].mean()),
            resamples=np.nanmean(resampled[:, known][..., chosen], axis=(1, 2)),
        )
        for name, chosen in at.items()
    }
    figures = {f"box_{name}": _figure("boxes", name) for name in at}
    for category in np.flatnonzero(known).tolist():  # of a class AP50, which is what VOC reports
        resamples = resampled[:, category, 0]
        values[f"ap {catalog.categories[category]}"] = Estimate(float(precision[category, 0]), resamples=resamples)
    return _Measured(figures, values)
