"""Classifiers of whole photos: their loss, and their figures on test photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data.catalog import Catalog
from stages.data.loading import photo_loader
from stages.evaluation.estimates import Estimate, Figure, mean_estimate, resample_counts, weighted_mean
from stages.evaluation.photo_labels import ClassPrecision, image_labels, left_out, measurable_classes
from stages.evaluation.tasks.targets import UNKNOWN
from stages.report import Report

FIGURES = {
    "top1": Figure("top-1", "Share of the test photos whose class gets the highest score.", metric="top1"),
    "top5": Figure("top-5", "Share of the test photos whose class is among the five highest scores.", metric="top5"),
    "mean_class": Figure("mean per class", "Top-1 of each class, averaged over the classes.", metric="mean_class"),
    "map": Figure("mAP", "Mean over the classes of the average precision on the test photos.", metric="map"),
}

# (B, 3, S, S) uint8 RGB -> (B, K) scores of each head.
Scorer = Callable[[Tensor], Mapping[str, Tensor]]


def classification_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy where a photo has one class, else the mean of K binary ones without those that nobody knows.

    Args:
        logits: (B, K). target: (B,) int64, or (B, K) float32: 1, 0, or UNKNOWN.

    Returns:
        () in the dtype of `logits`.
    """
    if target.ndim == 1:
        return F.cross_entropy(logits, target)
    known = target != UNKNOWN
    losses = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


class PhotoTest:
    """Test photos and how scores on them are judged, in figures as in an `Outcome`.

    Photos of class folders give `top1`, `top5` (of more than five classes) and `mean_class`; photos with boxes give
    `map` and `ap CLASS`, without photos with only difficult objects of a class, as VOC's rules say. A score that equals
    that of the right class counts as higher.

    Args:
        train, test: catalogs; a class is measured where train has a photo with and one without it, and test one with
            it.
        scratch: folder for scores.

    Raises:
        ValueError: the two have different classes, or nothing can be measured.
    """

    def __init__(self, train: Catalog, test: Catalog, *, seed: int, scratch: Path) -> None:
        self._catalog, self._scratch, self._seed = test, scratch, seed
        self._classes = len(test.categories)
        self.single = train.classes is not None
        if self.single != (test.classes is not None):
            raise ValueError(
                f"{train.root} and {test.root} are labelled in different ways: one has a class a photo, the other "
                "boxes. Give two splits of one data set."
            )
        if self.single:
            if train.categories != test.categories:
                raise ValueError(
                    f"train has the {len(train.categories)} classes {_few(train.categories)}, test has the "
                    f"{len(test.categories)} classes {_few(test.categories)}. A classifier can only be tested on what "
                    "it was trained on: give two splits of one data set."
                )
            self._truth = np.asarray(test.classes)
            if not (self._truth != UNKNOWN).any():
                raise ValueError(f"no photo of {test.root} has a class, so that there is nothing to test on.")
            self.notes: list[str] = []
        else:
            self._measured = measurable_classes(train, test, 1)
            self.notes = left_out(test.categories, self._measured)

    @property
    def figures(self) -> list[str]:
        """Names of the main figures."""
        if not self.single:
            return ["map"]
        return ["top1", "top5", "mean_class"] if self._classes > 5 else ["top1", "mean_class"]

    @torch.inference_mode()
    def judge(
        self,
        scorer: Scorer,
        heads: Sequence[str],
        *,
        resize: int,
        crop: int,
        batch_size: int,
        device: torch.device,
        workers: int,
        report: Report,
    ) -> dict[str, dict[str, Estimate]]:
        """The figures of each head, from one pass over the photos: `heads` -> figure -> estimate.

        Args:
            resize, crop: shorter side, then centre crop, in pixels.
        """
        found = self._single_table(heads) if self.single else self._score_tables(heads)
        loader = photo_loader(self._catalog, resize=resize, crop=crop, batch_size=batch_size, workers=workers)
        done = 0
        for numbers, pixels in loader:
            scores = scorer(pixels.to(device, non_blocking=True))
            for head in heads:
                self._note(found[head], numbers, scores[head].float().cpu())
            done += len(numbers)
            report.progress(done, len(self._catalog), "photos")
        judged = self._of_ranks if self.single else self._of_scores
        return {head: judged(found[head]) for head in heads}

    def _single_table(self, heads: Sequence[str]) -> dict[str, np.ndarray]:
        """For each head (M,) int32, to be filled with how many classes score at least as high as the right one."""
        return {head: np.zeros(len(self._catalog), np.int32) for head in heads}

    def _score_tables(self, heads: Sequence[str]) -> dict[str, np.ndarray]:
        """For each head (K, M) float32 in a file: a class's scores lie together, as they are used."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        shape = (self._classes, len(self._catalog))
        return {
            head: np.lib.format.open_memmap(self._scratch / f"scores {head}.npy", "w+", np.float32, shape)
            for head in heads
        }

    def _note(self, table: np.ndarray, numbers: Tensor, scores: Tensor) -> None:
        """scores: (B, K) float32 of the photos `numbers` (B,)."""
        if not torch.isfinite(scores).all():
            raise FloatingPointError("the classifier's scores are not finite: lower its learning rate.")
        if not self.single:
            table[:, numbers.numpy()] = scores.numpy().T
            return
        truth = torch.from_numpy(self._truth[numbers.numpy()].astype(np.int64)).clamp(min=0)
        right = scores.gather(1, truth[:, None])
        table[numbers.numpy()] = (scores >= right).sum(dim=1).numpy() - 1

    def _of_ranks(self, ranks: np.ndarray) -> dict[str, Estimate]:
        tested = self._truth != UNKNOWN
        truth, ranks = self._truth[tested], ranks[tested]
        counts = resample_counts(len(self._truth), self._seed)[:, tested]
        commonest = np.sort(np.bincount(truth, minlength=self._classes))[::-1] / len(truth)
        values = {}
        for name, within in (("top1", 1), ("top5", 5)):
            if name in self.figures:
                hits = (ranks < within).astype(float)
                chance = float(commonest[:within].sum())  # always naming the commonest classes
                values[name] = Estimate(float(hits.mean()), chance, weighted_mean(hits, counts))
        by_class = []
        for c in np.unique(truth):
            hits = (ranks[truth == c] < 1).astype(float)
            by_class.append(Estimate(float(hits.mean()), 1 / self._classes, weighted_mean(hits, counts[:, truth == c])))
        return values | {"mean_class": mean_estimate(by_class)}

    def _of_scores(self, scores: np.ndarray) -> dict[str, Estimate]:
        precision = ClassPrecision(image_labels(self._catalog), self._measured, seed=self._seed)
        classes = {
            f"ap {self._catalog.categories[c]}": precision.estimate(int(c), scores[c]) for c in self._measured.tolist()
        }
        return {"map": mean_estimate(list(classes.values())), **classes}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
