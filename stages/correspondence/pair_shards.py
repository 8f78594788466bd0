"""The pairs of a shard of photos, made by any process: one .npz file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from stages.correspondence.best_pairs import Matcher, Rule
from stages.data.boxes import Boxes
from stages.data.rows import Rows
from stages.learning.similarity import lost_to_rounding, rough_dtype
from stages.shards import Shard

_BLOCK = 2048  # features


@dataclass(frozen=True)
class Sources:
    """What pairs are made from: the folders of the artifacts, and the number of photos."""

    retrieval: Path
    regions: Path
    roi_features: Path
    images: int

    @property
    def features(self) -> Rows:
        return Rows(self.roi_features / "features.npy", most_mapped=2**26)

    def check(self) -> int:
        """K, the neighbours of each photo.

        Raises:
            ValueError: the artifacts do not fit each other or the catalog.
        """
        boxes, features = Boxes(self.regions), self.features.array
        boxes.check(self.images)
        if features.ndim != 2 or features.dtype != np.float16 or len(features) != len(boxes):
            raise ValueError(
                f"{len(boxes)} boxes and features of shape {features.shape} in {self.roi_features / 'features.npy'} do "
                "not belong together: each box needs a feature, one row of float16. Run roi_features again for these "
                "regions."
            )
        rows = pq.read_metadata(self.retrieval / "neighbors.parquet").num_rows
        if rows == 0 or rows % self.images:
            raise _other_catalog(self.retrieval, self.images)
        return rows // self.images

    def lost_to_rounding(self, device: str) -> float:
        """What `Matcher` wants to know of the features: once, not anew for each neighbour that a photo is."""
        features, dtype = self.features, rough_dtype(torch.device(device))
        if dtype == torch.float32:
            return 0.0
        blocks = range(0, len(features), _BLOCK)
        return max(lost_to_rounding(features.block(first, first + _BLOCK), dtype) for first in blocks)

    def neighbors(self, first: int, last: int) -> np.ndarray:
        """(n, K) int64: photo numbers of the neighbours of photos first .. last - 1, nearest first."""
        rows = [("image", ">=", first), ("image", "<", last)]
        table = pq.read_table(
            self.retrieval / "neighbors.parquet", columns=["image", "neighbor"], filters=rows, use_threads=False
        )
        image, neighbor = (column.to_numpy().astype(np.int64) for column in table.columns)
        each = len(image) // (last - first)
        inside = not len(neighbor) or (neighbor.min() >= 0 and neighbor.max() < self.images)
        if each == 0 or not np.array_equal(image, np.repeat(np.arange(first, last), each)) or not inside:
            raise _other_catalog(self.retrieval, self.images)
        return neighbor.reshape(-1, each)


@dataclass(frozen=True)
class MinedPairs:
    """Pairs of n photos, as `PairsWriter.append` takes them; `lonely` photos have but the one that was forced."""

    neighbors: np.ndarray
    counts: np.ndarray
    rois: np.ndarray
    similarity: np.ndarray
    lonely: np.ndarray

    @classmethod
    def load(cls, path: Path) -> MinedPairs:
        with np.load(path, allow_pickle=False) as file:
            return cls(*(file[field.name] for field in fields(cls)))

    def save(self, path: Path) -> None:
        with path.open("wb") as file:  # by its name, np.savez would give it another ending
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})


def mine_shard(sources: Sources, rule: Rule, device: str, lost: float, shard: Shard, path: Path) -> None:
    """Writes the pairs of the shard's photos with their neighbours. rule, device, lost: see `Matcher`."""
    boxes, features, matcher = Boxes(sources.regions), sources.features, Matcher(rule, torch.device(device), lost)
    neighbors = sources.neighbors(shard.first, shard.last)
    starts = boxes.starts

    def rows(image: int) -> np.ndarray:
        return features.block(int(starts[image]), int(starts[image + 1]))

    found, lonely = [], np.zeros(len(neighbors), bool)
    with _one_thread():  # matrices this small gain nothing by more, and lose where cores are busy
        for place, others in enumerate(neighbors.tolist()):
            pairs, lonely[place] = matcher(rows(shard.first + place), [rows(other) for other in others])
            found += pairs
    MinedPairs(
        neighbors=neighbors,
        counts=np.array([len(rois) for rois, _ in found]).reshape(neighbors.shape),
        rois=np.concatenate([rois for rois, _ in found]),
        similarity=np.concatenate([similarity for _, similarity in found]),
        lonely=lonely,
    ).save(path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch computes with one thread within this block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _other_catalog(retrieval: Path, images: int) -> ValueError:
    return ValueError(
        f"{retrieval / 'neighbors.parquet'} does not list the same number of neighbours for each of the {images} "
        "photos in turn. It belongs to another catalog: run retrieval for this one."
    )
