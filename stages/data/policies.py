"""What each method is shown of one photo: which views, of which boxes. Plain numbers; see `stages.data.views`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from stages.data.mapped import Mapped
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, Box, Photometry, View, draw_view, jitter_box, scene_crop

Pair = tuple[Photometry, Photometry]

_CHECKED = 2**16  # photos at a time
_REMEDY = "The files are not of one run: run the steps catalog, regions and correspondence again, in this order."


class Policy(Protocol):
    """Draws the views of one sample; `names` are theirs, in order. Goes to worker processes, so it must pickle."""

    names: tuple[str, ...]

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]: ...


class ImageViews:
    """Two random crops of the whole photo: BYOL (arXiv:2006.07733, appendix B), SimCLR, MoCo and their kin."""

    names: tuple[str, ...] = ("view_1", "view_2")

    def __init__(
        self,
        sizes: np.ndarray,
        *,
        size: int,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
    ) -> None:
        """
        Args:
            sizes: (N, 2) width and height of each photo in pixels (`Catalog.sizes`).
            size: side of a view in pixels.
            scale, ratio: area (as a fraction of the photo) and width / height of a crop; see `scene_crop`.
            photometry: colour operations of view 1 and of view 2.
        """
        self.sizes = _shared(sizes)
        self._size, self._scale, self._ratio = size, scale, ratio
        self._photometry = photometry

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        width, height = self.photo_size(image)
        views = {}
        for name, photometry in zip(self.names, self._photometry, strict=True):
            box = scene_crop(rng, width, height, self._scale, self._ratio)
            views[name] = draw_view(rng, image, box, self._size, photometry)
        return views

    def photo_size(self, image: int) -> tuple[int, int]:
        """Width and height of photo `image` in pixels."""
        width, height = self.sizes[image].tolist()
        return width, height


class OrlViews:
    """ORL's six views: two of the photo, two of one of its RoIs, and one RoI with its match in a neighbouring photo.

    `view_1`, `view_2` come from `photo_views`. `intra_1`, `intra_2` show a uniformly drawn box of the photo.
    `inter_1`, `inter_2` show a pair of boxes, of the photo and of a neighbour: the neighbour is uniform over those
    that have pairs, the pair uniform over the neighbour's. RoIs are resized whole, without another random crop.
    The first of two patches gets the colours of view 1, the second those of view 2.

    Boxes and pairs are read from memory-mapped files, in constant time and memory, by all worker processes alike.

    Source: ORL (arXiv:2106.11952), section 3.1, stage 3, and the official code (openselfsup/datasets/orl.py).
    """

    names: tuple[str, ...] = ("view_1", "view_2", "intra_1", "intra_2", "inter_1", "inter_2")

    def __init__(
        self,
        photo_views: ImageViews,
        regions: Path,
        correspondence: Path,
        *,
        patch_size: int,
        jitter: Literal["one", "both"] = "one",
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
    ) -> None:
        """
        Args:
            photo_views: draws the two views of the whole photo.
            regions: directory of `corners.npy` (boxes, 4) and `starts.npy` (N + 1,): the boxes of photo i are rows
                starts[i] .. starts[i + 1] - 1.
            correspondence: directory of `pair_neighbors.npy` (N, K), `pair_starts.npy` (N K + 1,) and `pair_rois.npy`
                (pairs, 2): the pairs of photo i and its neighbour of rank r are rows starts[i K + r] and on, numbers
                of a box of the photo and one of the neighbour.
            patch_size: side of the four RoI views in pixels.
            jitter: "one": `intra_1` is the box as it is, and `intra_2` must overlap it with an IoU over 0.5 (official
                code); "both": both are jittered and may lie anywhere within reach (paper).
            photometry: colour operations of the first and of the second patch.

        Raises:
            ValueError: a photo has no box or no pair, or the files do not fit each other or the photos.
        """
        if jitter not in ("one", "both"):
            raise ValueError(f'jitter={jitter!r} is unknown: pass "one" (official code) or "both" (paper).')
        self._photo_views, self._patch_size = photo_views, patch_size
        self._jitter, self._photometry = jitter, photometry
        self._boxes, self._box_start = Mapped(regions / "corners.npy"), Mapped(regions / "starts.npy")
        self._neighbors = Mapped(correspondence / "pair_neighbors.npy")
        self._pair_start = Mapped(correspondence / "pair_starts.npy")
        self._pairs = Mapped(correspondence / "pair_rois.npy")
        self._check(len(photo_views.sizes))

    def _check(self, images: int) -> None:
        boxes, starts = len(self._boxes), self._box_start.array
        if len(starts) != images + 1 or starts[-1] != boxes:
            raise ValueError(f"{boxes} boxes of {len(starts) - 1} photos do not belong to {images} photos. {_REMEDY}")
        neighbors, pair_starts = self._neighbors.array, self._pair_start.array
        if len(neighbors) != images or len(pair_starts) != neighbors.size + 1 or pair_starts[-1] != len(self._pairs):
            raise ValueError(
                f"{len(self._pairs)} pairs of {len(neighbors)} photos do not belong to {images} photos. {_REMEDY}"
            )
        for first in range(0, images, _CHECKED):
            last = min(first + _CHECKED, images)
            _check_each_has("box", np.diff(starts[first : last + 1]), first)
            others = neighbors[first:last]
            begin, end = first * others.shape[1], last * others.shape[1]
            counts = np.diff(pair_starts[begin : end + 1])
            _check_each_has("pair", counts.reshape(others.shape).sum(axis=1), first)
            self._check_numbers(np.arange(first, last).repeat(others.shape[1]), others.ravel(), counts, begin)

    def _check_numbers(self, images: np.ndarray, neighbors: np.ndarray, counts: np.ndarray, begin: int) -> None:
        """That pairs name boxes that there are. images, neighbors, counts: (groups,) of the groups from `begin` on."""
        starts, pair_starts = self._box_start.array, self._pair_start.array
        pairs = self._pairs.array[pair_starts[begin] : pair_starts[begin + len(counts)]]
        for column, holders in (("roi", images), ("neighbor_roi", neighbors)):
            there = (holders >= 0) & (holders < len(starts) - 1)  # an image beyond the last has no boxes
            holders_there = np.where(there, holders, 0)
            boxes = np.where(there, starts[holders_there + 1] - starts[holders_there], 0).repeat(counts)
            number = pairs[:, int(column == "neighbor_roi")]
            wrong = (number < 0) | (number >= boxes)
            if wrong.any():
                at = int(wrong.argmax())
                image = holders.repeat(counts)[at]
                raise ValueError(f"a pair names {column} {number[at]} of image {image}: no such box. {_REMEDY}")

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        views = self._photo_views.plan(rng, image)

        width, height = self._photo_views.photo_size(image)
        box = self._box(image, _draw(rng, self._box_start.array[image : image + 2]))
        if self._jitter == "one":
            intra = box, jitter_box(rng, box, width, height, min_iou=0.5)
        else:
            intra = (
                jitter_box(rng, box, width, height, min_iou=None),
                jitter_box(rng, box, width, height, min_iou=None),
            )

        neighbors = self._neighbors.array[image]
        starts = self._pair_start.array[image * len(neighbors) : (image + 1) * len(neighbors) + 1]
        with_pairs = np.flatnonzero(np.diff(starts))
        rank = int(with_pairs[rng.integers(len(with_pairs))])
        neighbor = int(neighbors[rank])
        roi, neighbor_roi = self._pairs.array[starts[rank] + _draw(rng, starts[rank : rank + 2])].tolist()

        for name, photo, patch_box, photometry in (
            ("intra_1", image, intra[0], self._photometry[0]),
            ("intra_2", image, intra[1], self._photometry[1]),
            ("inter_1", image, self._box(image, roi), self._photometry[0]),
            ("inter_2", neighbor, self._box(neighbor, neighbor_roi), self._photometry[1]),
        ):
            views[name] = draw_view(rng, photo, patch_box, self._patch_size, photometry)
        return views

    def _box(self, image: int, roi: int) -> Box:
        x0, y0, x1, y1 = self._boxes.array[int(self._box_start.array[image]) + roi].tolist()
        return x0, y0, x1, y1


def _shared(array: np.ndarray) -> Tensor:
    """A tensor instead of an array because PyTorch hands tensors to worker processes through shared memory.

    So a table is held once, however many workers read it.
    """
    return torch.from_numpy(np.array(array))


def _check_each_has(thing: str, counts: np.ndarray, first: int) -> None:
    """counts: (n,) things of each of the images from number `first` on."""
    empty = np.flatnonzero(counts <= 0)
    if len(empty):
        raise ValueError(
            f"image {first + empty[0]} (its row in images.parquet) has no {thing}, but ORL draws one of every photo in "
            f"every epoch. {_REMEDY}"
        )


def _draw(rng: np.random.Generator, ends: np.ndarray) -> int:
    """A uniformly drawn number from 0 on, of as many as lie between the two `ends`."""
    first, end = ends.tolist()
    return int(rng.integers(end - first))
