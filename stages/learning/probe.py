"""An online probe: how well the features of a network in training tell labelled objects apart that it never trains on.

Weighted kNN needs no training of its own, so it costs one pass over the objects. It only looks: nothing of the network
changes, and no generator is advanced, so that a training with a probe has the same weights as one without.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.data.catalog import Catalog
from stages.data.objects import in_two_photos, measured_objects, object_views
from stages.data.photos import Photos
from stages.data.render import render
from stages.data.unreadable import UnreadablePhoto
from stages.learning.encoder import Encoder

_TEMPERATURE = 0.07  # Wu et al., section 3.4
_BATCH = 64
_ROWS = 1024  # of the similarity matrix that are in memory at once

log = logging.getLogger(__name__)


class Probe:
    """Objects of a labelled data set, drawn once and kept in memory: 3 * size^2 bytes each."""

    def __init__(self, catalog: Catalog, *, size: int, max_objects: int, neighbors: int, seed: int) -> None:
        """
        Args:
            catalog: a labelled data set, not the one that is trained on.
            size: side to which the box of an object is resized, in pixels.
            max_objects: more are not looked at, but as many drawn at random by `seed`.
            neighbors: k, how many of the most similar objects vote.

        Raises:
            ValueError: the data set has no labels, or no class with objects in two photos.
        """
        objects = measured_objects(catalog)
        if len(objects) > max_objects:
            rows = np.random.default_rng(seed).choice(len(objects), max_objects, replace=False)
            objects = objects.iloc[np.sort(rows)]
        self._pictures, objects = _drawn(objects, catalog, size)
        asked = in_two_photos(objects)  # the others stay as wrong answers
        if not asked.any():
            raise ValueError(
                f"no class has two of the {len(objects)} objects in different photos, so the probe has nothing to ask. "
                f"Raise its max_objects ({max_objects}) or give it more photos."
            )
        self._asked = torch.tensor(asked)
        self._photos = torch.tensor(objects["image"].to_numpy(np.int64))
        self._classes = torch.tensor(objects["category"].to_numpy(np.int64))
        self._neighbors = neighbors

    @torch.no_grad()
    def accuracy(self, encoder: Encoder, device: torch.device) -> dict[str, float]:
        """How many objects get the right class by their neighbours in other photos.

        Args:
            encoder: on `device`; afterwards in train or eval mode as before.

        Returns:
            `probe_top1` in [0, 1], of the objects whose class is in two photos; `probe_chance`, what one reaches by
            always naming the commonest class.
        """
        with _evaluating(encoder):
            features = [encoder.features(batch.to(device)).cpu() for batch in self._pictures.split(_BATCH)]
        named = vote(torch.cat(features), self._classes, self._photos, neighbors=self._neighbors)
        right = (named == self._classes)[self._asked]
        commonest = self._classes[self._asked].bincount().max()
        return {"probe_top1": right.sum().item() / len(right), "probe_chance": commonest.item() / len(right)}


def vote(features: Tensor, classes: Tensor, groups: Tensor, *, neighbors: int) -> Tensor:
    """The class that the k most similar rows of other groups give each row: weighted kNN.

        argmax_c sum_{j in kNN(i)} exp(s_ij / 0.07) [c_j = c],   s_ij = cosine of rows i and j

    Source: Wu et al. (arXiv:1805.01978), section 3.4.

    Args:
        features: (N, C) float. classes: (N,) int64 >= 0. groups: (N,) int64.
        neighbors: k; all rows of other groups vote where there are fewer.

    Returns:
        (N,) int64. Where there is no other group, any class.
    """
    unit = F.normalize(features, dim=1)
    membership = F.one_hot(classes).to(unit)  # (N, K)
    named = []
    for rows, row_groups in zip(unit.split(_ROWS), groups.split(_ROWS), strict=True):
        similarity = rows @ unit.T  # (R, N)
        similarity.masked_fill_(row_groups[:, None] == groups[None, :], -torch.inf)
        nearest = similarity.topk(min(neighbors, len(unit)), dim=1)
        # Less the largest cosine, 1, so that nothing overflows.
        weights = ((nearest.values - 1) / _TEMPERATURE).exp()  # (R, k)
        named.append(torch.einsum("rk,rkc->rc", weights, membership[nearest.indices]).argmax(dim=1))
    return torch.cat(named)


def _drawn(objects: pd.DataFrame, catalog: Catalog, size: int) -> tuple[Tensor, pd.DataFrame]:
    """Pictures of `objects` (sorted by image), (N, 3, size, size) uint8, and the objects themselves.

    Objects of photos that can't be read any more are left out of both.
    """
    photos = Photos(catalog)
    pictures: list[Tensor] = []
    unreadable: list[UnreadablePhoto] = []
    for views in object_views(objects, size):
        try:
            pictures += render({str(number): view for number, view in enumerate(views)}, photos.open).values()
        except UnreadablePhoto as error:
            unreadable.append(error)
    if unreadable:
        log.warning("the probe leaves out %d photos: %s", len(unreadable), unreadable[0])
    kept = objects[~objects["image"].isin([error.unreadable.image for error in unreadable])]
    return torch.stack(pictures) if pictures else torch.empty(0, 3, size, size, dtype=torch.uint8), kept


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode within the block: batch norm uses its running averages and leaves them as they are."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
