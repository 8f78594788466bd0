"""Fine-tuning: the whole network learns the classes, from the encoder or from scratch, with all labels or a few.

From the encoder, on 1 % or 10 % of ImageNet's labels, this is semi-supervised learning (SimCLR, arXiv:2002.05709,
section 6; settings of OpenSelfSup's code, which ORL uses). From random weights on the same labels it is the supervised
reference: what a network of this kind reaches without any pretraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.data.catalog import Catalog, Roots
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Outcome
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.tasks.classification import FIGURES, PhotoTest, classification_loss
from stages.evaluation.tasks.loop import train_task
from stages.evaluation.tasks.optimizers import sgd
from stages.evaluation.tasks.pictures import TrainingPictures, lit
from stages.evaluation.tasks.recipe import Recipe
from stages.evaluation.tasks.subsets import labelled_subset
from stages.evaluation.tasks.targets import open_targets
from stages.learning.backbones import Backbone
from stages.learning.devices import resolve_device
from stages.learning.distributed import local_device, rank
from stages.report import Report

STARTS = ("encoder", "random")
SUBSET_FILE = "subset.txt"
_WEIGHT_STD = 0.01  # of the classifier at the start, as in OpenSelfSup
_HEAD = "classifier"


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    train: Path,
    train_root: Roots,
    test: Path,
    test_root: Roots,
    init: str,
    labels: float,
    draw: int,
    head_factor: float,
    training: Mapping[str, Any],
    augmentation: str,
    min_crop: float,
    resize: int,
    crop: int,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Trains backbone and classifier, tests them, and writes the outcome and what `train_task` writes; with a share of
    the labels also `subset.txt`, the paths of the photos that were trained on.

    Args:
        encoder: arguments of `open_backbone`.
        train, test: catalogs of one data set with a class a photo, or with boxes (then a photo has many classes).
        init: "encoder", or "random": the encoder's architecture with weights drawn by `seed`.
        labels, draw: share and number of the subset, see `labelled_subset`.
        head_factor: learning rate of the classifier as a multiple of the backbone's.
        training: fields of `Recipe`; its rate is the backbone's.
        augmentation, min_crop, resize, crop: see `linear_probe.run`.

    Raises:
        ValueError: a setting, the labels or the checkpoint do not fit.
        FloatingPointError, SystemExit: see `train_task`.
    """
    if init not in STARTS:
        raise ValueError(f"init '{init}' is not known. Choose one of {', '.join(STARTS)}.")
    photos, test_photos = Catalog(train, train_root), Catalog(test, test_root)
    tested = PhotoTest(photos, test_photos, seed=seed, scratch=out / "scratch")  # raises now, not after the training
    targets = open_targets(photos, out / "scratch")
    chosen = labelled_subset(photos, targets, labels, draw)
    if labels < 1 and rank() == 0:
        (out / SUBSET_FILE).write_text("".join(f"{photos.name(image)}\n" for image in chosen.tolist()))
    data = TrainingPictures(
        photos, targets, chosen, size=crop, min_crop=min_crop,
        augmentation=augmentation, seed=seed,
    )  # fmt: skip
    recipe = Recipe(**training)
    settings = {
        "init": init, "labels": labels, "draw": draw, "head_factor": head_factor, "augmentation": augmentation,
        "min_crop": min_crop, "resize": resize, "crop": crop, **recipe.deciding(),
    }  # fmt: skip

    backbone = open_backbone(**encoder)
    network = Classifier(backbone if init == "encoder" else _untrained(backbone.name, seed), targets.classes, seed=seed)

    make = partial(
        sgd, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov,
        groups=partial(_two_rates, head_lr=head_factor * recipe.lr),
    )  # fmt: skip
    last = train_task(
        network, data, out=out, report=report, steps=recipe.steps(len(data)), batch_size=recipe.batch_size,
        optimizer=make, schedule=recipe.factor(len(data)), settings=settings, seed=seed, device=device,
        workers=workers, precision=recipe.precision, checkpoint_minutes=recipe.checkpoint_minutes,
        log_every=recipe.log_every,
    )  # fmt: skip
    if rank() > 0:
        return
    found = tested.judge(
        network.eval().scores, [_HEAD], resize=resize, crop=crop, batch_size=recipe.batch_size,
        device=local_device(resolve_device(device)), workers=workers, report=report,
    )[_HEAD]  # fmt: skip
    settings |= {"train_images": len(data)}
    values = {name: {THIS: estimate} for name, estimate in found.items()}
    figures = {name: FIGURES[name] for name in tested.figures}
    save_outcome(Outcome("fine_tuning", test_photos.directory.name, settings, figures, values, list(tested.notes)), out)
    report.metric(loss=last["loss"], **{name: found[name].value for name in tested.figures})


class Classifier(nn.Module):
    """A backbone and a linear classifier on its averaged last map. classes: K. seed: of the classifier's weights."""

    def __init__(self, backbone: Backbone, classes: int, *, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.channels, classes)
        nn.init.normal_(self.classifier.weight, std=_WEIGHT_STD, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.classifier.bias)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """batch: of `TrainingPictures`."""
        return classification_loss(self._logits(lit(batch)), batch["target"]), {}

    def scores(self, pixels: Tensor) -> dict[str, Tensor]:
        """(N, K). pixels: (N, 3, S, S) in 0..255."""
        return {_HEAD: self._logits(pixels)}

    def _logits(self, pixels: Tensor) -> Tensor:
        feature_map = self.backbone.feature_map(self.backbone.normalise(pixels))
        return self.classifier(feature_map.mean(dim=(2, 3)))


def _two_rates(network: Any, head_lr: float) -> list[dict[str, Any]]:
    """Groups for `sgd` of the parameters of a `Classifier`."""
    return [
        {"params": network.backbone.parameters()},
        {"params": network.classifier.parameters(), "lr": head_lr},
    ]


def _untrained(name: str, seed: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Backbone(name)
