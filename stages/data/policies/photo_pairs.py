"""The mined pairs of boxes of each photo and its neighbours, read from the folder of step `correspondence`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.data.mapped import Mapped
from stages.data.policies.photo_boxes import PHOTOS_AT_A_TIME, PhotoBoxes, check_each_has
from stages.data.uniform import one_of

_REMEDY = "The files are not of one run: run the steps catalog, regions and correspondence again, in this order."


class BoxPair(NamedTuple):
    """Box number `roi` of a photo belongs with box number `neighbor_roi` of photo `neighbor`."""

    roi: int
    neighbor: int
    neighbor_roi: int


class PhotoPairs:
    """Pairs in memory-mapped files, read in constant time and memory, by all worker processes alike."""

    def __init__(
        self, correspondence: Path, boxes: PhotoBoxes, images: int, *, neighbors: int | None, share: float
    ) -> None:
        """
        Args:
            correspondence: directory of `pair_neighbors.npy` (N, K), `pair_starts.npy` (N K + 1,) and `pair_rois.npy`
                (pairs, 2): the pairs of photo i and its neighbour of rank r are rows starts[i K + r] and on, most
                similar first, numbers of a box of the photo and one of the neighbour.
            boxes: those that the numbers name.
            images: N, the photos of the catalog.
            neighbors: how many of a photo's neighbours to draw from, the nearest of those that have pairs; None: all.
            share: of each neighbour's pairs the most similar ones, rounded down but at least one.

        Raises:
            ValueError: a photo has no pair, the files do not fit each other or the photos, or there are fewer
                neighbours than asked for.
        """
        self._neighbors = Mapped(correspondence / "pair_neighbors.npy")
        self._starts = Mapped(correspondence / "pair_starts.npy")
        self._rois = Mapped(correspondence / "pair_rois.npy")
        self._boxes = boxes
        if not 0 < share <= 1:
            raise ValueError(f"pairs={share}: give the share of each neighbour's pairs to use, over 0 and at most 1.")
        self._check(images)
        stored = self._neighbors.array.shape[1]
        if neighbors is not None and not 1 <= neighbors <= stored:
            raise ValueError(
                f"neighbors={neighbors}, but pairs were mined with {stored} neighbours a photo: use 1 to {stored}, or "
                "raise retrieval.neighbors and mine again."
            )
        self._nearest, self._share = neighbors, share

    def pick(self, image: int, neighbor: float, pair: float) -> BoxPair:
        """The neighbour of photo `image`, and the pair with it, that two uniform numbers in [0, 1) stand for."""
        others = self._neighbors.array[image]
        starts = self._starts.array[image * len(others) : (image + 1) * len(others) + 1]
        with_pairs = np.flatnonzero(np.diff(starts))[: self._nearest]
        rank = int(with_pairs[one_of(neighbor, len(with_pairs))])
        first, end = starts[rank : rank + 2].tolist()
        used = max(1, int(self._share * (end - first)))
        roi, neighbor_roi = self._rois.array[first + one_of(pair, used)].tolist()
        return BoxPair(roi, int(others[rank]), neighbor_roi)

    def _check(self, images: int) -> None:
        neighbors, starts, pairs = self._neighbors.array, self._starts.array, len(self._rois)
        if len(neighbors) != images or len(starts) != neighbors.size + 1 or starts[-1] != pairs:
            raise ValueError(f"{pairs} pairs of {len(neighbors)} photos do not belong to {images} photos. {_REMEDY}")
        for first in range(0, images, PHOTOS_AT_A_TIME):
            others = neighbors[first : first + PHOTOS_AT_A_TIME]
            begin = first * others.shape[1]
            counts = np.diff(starts[begin : begin + others.size + 1])
            check_each_has("pair", counts.reshape(others.shape).sum(axis=1), first, _REMEDY)
            photos = np.arange(first, first + len(others)).repeat(others.shape[1])
            self._check_numbers(photos, others.ravel(), counts, begin)

    def _check_numbers(self, images: np.ndarray, neighbors: np.ndarray, counts: np.ndarray, begin: int) -> None:
        """That pairs name boxes that there are. images, neighbors, counts: (groups,) of the groups from `begin` on."""
        starts, pair_starts = self._boxes.starts, self._starts.array
        pairs = self._rois.array[pair_starts[begin] : pair_starts[begin + len(counts)]]
        for column, (name, holders) in enumerate((("roi", images), ("neighbor_roi", neighbors))):
            there = (holders >= 0) & (holders < len(starts) - 1)  # an image beyond the last has no boxes
            holders_there = np.where(there, holders, 0)
            boxes = np.where(there, starts[holders_there + 1] - starts[holders_there], 0).repeat(counts)
            number = pairs[:, column]
            wrong = (number < 0) | (number >= boxes)
            if wrong.any():
                at = int(wrong.argmax())
                image = holders.repeat(counts)[at]
                raise ValueError(f"a pair names {name} {number[at]} of image {image}: no such box. {_REMEDY}")
