"""Figures about all pairs, summed up shard by shard."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stages.correspondence.pair_shards import MinedPairs

_BINS = 2**16  # of similarities in -1 .. 1: the median is known to 0.00003
_LOW, _HIGH = -1.01, 1.01  # lengths of rows are 1 but for rounding


@dataclass
class PairFigures:
    """What the manifest says of the pairs.

    Attributes:
        likeness: for each photo so far, the mean similarity of its pairs with the nearest neighbour that it has any
            with.
    """

    likeness: list[np.ndarray] = field(default_factory=list)
    _total: float = 0.0
    _reused: int = 0
    _lonely: int = 0
    _histogram: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, mined: MinedPairs) -> None:
        similarity, counts = mined.similarity, mined.counts
        self._total += float(similarity.sum())
        self._lonely += int(mined.lonely.sum())
        self._histogram += np.histogram(similarity, _BINS, (_LOW, _HIGH))[0]

        group = np.repeat(np.arange(counts.size), counts.ravel())
        boxes = group * 2**15 + mined.rois[:, 1]  # a neighbour's box, for each photo and neighbour anew
        uses = np.unique(boxes, return_counts=True)[1]
        self._reused += int(uses[uses > 1].sum())

        ends = np.cumsum(counts.ravel())
        nearest = np.arange(len(counts)) * counts.shape[1] + (counts > 0).argmax(axis=1)
        first = ends[nearest] - counts.ravel()[nearest]
        sums = np.concatenate([[0.0], np.cumsum(similarity)])
        self.likeness.append(((sums[ends[nearest]] - sums[first]) / counts.ravel()[nearest]).astype(np.float32))

    def metrics(self) -> dict[str, float]:
        pairs, photos = int(self._histogram.sum()), sum(map(len, self.likeness))
        middle = np.searchsorted(np.cumsum(self._histogram), [(pairs - 1) // 2, pairs // 2], side="right").mean()
        return {
            "pairs": pairs,
            "pairs_per_image_mean": pairs / photos,
            "similarity_mean": self._total / pairs,
            "similarity_median": float(_LOW + (middle + 0.5) * (_HIGH - _LOW) / _BINS),
            "reused_share": self._reused / pairs,
            "best_pair_only_images": self._lonely,
        }
