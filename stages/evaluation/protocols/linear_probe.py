"""Linear probes: classifiers on frozen features, trained by SGD on augmented photos, at every depth at once.

Source: Goyal et al. 2019 (arXiv:1905.01235), section 6.1, and Zhang et al. 2017 before them; five heads as in the code
of OpenSelfSup, which ORL uses (ImageNet, Places205, iNaturalist18); one head on the averaged last map ("r50_last") as
in MoCo (arXiv:1911.05722, section 4.1); with a binary loss a class for photos of many classes as in object-aware
cropping (arXiv:2112.00319) on OpenImages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.data.catalog import Catalog, Roots
from stages.evaluation.encoders import open_backbone
from stages.evaluation.estimates import Estimate, Figure, Outcome
from stages.evaluation.features import GAP, feature_dims, pooled
from stages.evaluation.pyramid import Pyramid
from stages.evaluation.saved import THIS, save_outcome
from stages.evaluation.tasks.classification import FIGURES, PhotoTest, classification_loss
from stages.evaluation.tasks.loop import train_task
from stages.evaluation.tasks.optimizers import sgd
from stages.evaluation.tasks.pictures import TrainingPictures, lit
from stages.evaluation.tasks.recipe import Recipe
from stages.evaluation.tasks.targets import open_targets
from stages.learning.devices import resolve_device
from stages.learning.distributed import local_device, rank
from stages.learning.optimizers import make_optimizer
from stages.report import Report

_WEIGHT_STD = 0.01  # of the classifiers at the start: OpenSelfSup's, and MoCo's main_lincls.py


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    train: Path,
    train_root: Roots,
    test: Path,
    test_root: Roots,
    depths: Sequence[str],
    batch_norm: bool,
    optimizer: str,
    training: Mapping[str, Any],
    augmentation: str,
    min_crop: float,
    resize: int,
    crop: int,
    seed: int,
    device: str,
    workers: int,
) -> None:
    """Trains one classifier a depth, tests them, and writes the outcome and what `train_task` writes.

    Each main figure is that of the best depth, as the papers report it; all depths are beside it.

    Args:
        encoder: arguments of `open_backbone`; it stays as it is, its batch norms in eval mode.
        train, test: catalogs of one data set with a class a photo, or with boxes (then a photo has many classes).
        depths: see `features.run`.
        batch_norm: normalise the features of each channel by batch norm, without weights of its own, before the
            classifier: the five heads do, `r50_last` does not.
        optimizer: "sgd", or "lars" for large batches (SimSiam's probe).
        training: fields of `Recipe`.
        augmentation, min_crop: see `TrainingPictures`.
        resize, crop: of test photos, see `PhotoTest.judge`; training pictures are of `crop` pixels too.

    Raises:
        ValueError: a setting, the labels or the checkpoint do not fit.
        FloatingPointError, SystemExit: see `train_task`.
    """
    if optimizer not in _OPTIMIZERS:
        raise ValueError(f"optimizer '{optimizer}' is not known for probes. Choose one of {', '.join(_OPTIMIZERS)}.")
    photos, test_photos = Catalog(train, train_root), Catalog(test, test_root)
    tested = PhotoTest(photos, test_photos, seed=seed, scratch=out / "scratch")  # raises now, not after the training
    targets = open_targets(photos, out / "scratch")
    data = TrainingPictures(
        photos, targets, targets.usable(), size=crop, min_crop=min_crop,
        augmentation=augmentation, seed=seed,
    )  # fmt: skip
    recipe = Recipe(**training)
    settings = {
        "depths": list(depths), "batch_norm": batch_norm, "optimizer": optimizer, "augmentation": augmentation,
        "min_crop": min_crop, "resize": resize, "crop": crop, **recipe.deciding(),
    }  # fmt: skip

    probe = Probe(Pyramid(open_backbone(**encoder)), depths, targets.classes, batch_norm=batch_norm, seed=seed)
    last = train_task(
        probe, data, out=out, report=report, steps=recipe.steps(len(data)), batch_size=recipe.batch_size,
        optimizer=partial(_OPTIMIZERS[optimizer], recipe), schedule=recipe.factor(len(data)), settings=settings,
        seed=seed, device=device, workers=workers, precision=recipe.precision,
        checkpoint_minutes=recipe.checkpoint_minutes, log_every=recipe.log_every,
    )  # fmt: skip
    if rank() > 0:
        return
    by_depth = tested.judge(
        probe.eval().scores, depths, resize=resize, crop=crop, batch_size=recipe.batch_size,
        device=local_device(resolve_device(device)), workers=workers, report=report,
    )  # fmt: skip
    outcome = _outcome(by_depth, tested, test_photos, settings | {"train_images": len(data)})
    save_outcome(outcome, out)
    report.metric(loss=last["loss"], **{name: outcome.values[name][THIS].value for name in tested.figures})


class Probe(nn.Module):
    """Classifiers on a frozen pyramid. Each learns alone: the loss is the sum of theirs.

    Args:
        pyramid: frozen in place, in eval mode for good.
        classes: K. seed: of the classifiers' first weights.
    """

    def __init__(self, pyramid: Pyramid, depths: Sequence[str], classes: int, *, batch_norm: bool, seed: int) -> None:
        super().__init__()
        self.pyramid = pyramid.requires_grad_(False).eval()
        channels = dict(zip(pyramid.names, pyramid.channels, strict=True)) | {GAP: pyramid.channels[-1]}
        self.heads = nn.ModuleDict()
        generator = torch.Generator().manual_seed(seed)
        for depth, dim in feature_dims(pyramid, depths).items():
            norm = nn.BatchNorm1d(channels[depth], affine=False) if batch_norm else nn.Identity()
            classifier = nn.Linear(dim, classes)
            nn.init.normal_(classifier.weight, std=_WEIGHT_STD, generator=generator)
            nn.init.zeros_(classifier.bias)
            cells = nn.Unflatten(1, (channels[depth], -1))
            self.heads[depth] = nn.Sequential(cells, norm, nn.Flatten(), classifier)

    def train(self, mode: bool = True) -> Probe:
        super().train(mode)
        self.pyramid.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """batch: of `TrainingPictures`."""
        losses = {
            depth: classification_loss(logits, batch["target"]) for depth, logits in self.scores(lit(batch)).items()
        }
        return torch.stack(list(losses.values())).sum(), {f"loss {depth}": loss for depth, loss in losses.items()}

    def scores(self, pixels: Tensor) -> dict[str, Tensor]:
        """(N, K) float32 of each depth. pixels: (N, 3, S, S) in 0..255."""
        with torch.no_grad():
            maps = self.pyramid(self.pyramid.normalise(pixels))
        # The classifiers cost next to nothing, and their rates of up to 30 would make much of bf16's rounding.
        with torch.autocast(pixels.device.type, enabled=False):
            by_name = dict(zip(self.pyramid.names, maps, strict=True)) | {GAP: maps[-1]}
            return {depth: head(_features(by_name[depth].float(), depth)) for depth, head in self.heads.items()}


def _features(feature_map: Tensor, depth: str) -> Tensor:
    """(N, C, h, w) -> (N, D)."""
    return feature_map.mean(dim=(2, 3)) if depth == GAP else pooled(feature_map, depth)


def _sgd(recipe: Recipe, probe: nn.Module) -> torch.optim.Optimizer:
    return sgd(
        probe, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
    )


def _lars(recipe: Recipe, probe: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer("lars", probe, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


_OPTIMIZERS = {"sgd": _sgd, "lars": _lars}


def _outcome(
    by_depth: dict[str, dict[str, Estimate]], tested: PhotoTest, photos: Catalog, settings: dict[str, Any]
) -> Outcome:
    figures: dict[str, Figure] = {}
    values: dict[str, dict[str, Estimate]] = {}
    notes = list(tested.notes)
    for name in tested.figures:
        best = max(by_depth, key=lambda depth: by_depth[depth][name].value)
        figures[name] = FIGURES[name]
        values[name] = {THIS: by_depth[best][name]}
        if len(by_depth) > 1:
            notes.append(f"{FIGURES[name].title} is that of the best depth on the test photos, {best}.")
            values |= {f"{name} {depth}": {THIS: estimates[name]} for depth, estimates in by_depth.items()}
    if len(by_depth) == 1:
        (estimates,) = by_depth.values()
        values |= {name: {THIS: each} for name, each in estimates.items() if name not in figures}
    return Outcome("linear_probe", photos.directory.name, settings, figures, values, notes)
