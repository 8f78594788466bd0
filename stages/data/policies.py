"""What each method is shown of one photo: which views, of which boxes. Plain numbers; see `stages.data.views`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, Box, Photometry, View, draw_view, jitter_box, scene_crop

Pair = tuple[Photometry, Photometry]

_REMEDY = "The tables are not of one run: run the steps catalog, regions and correspondence again, in this order."


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

    Source: ORL (arXiv:2106.11952), section 3.1, stage 3, and the official code (openselfsup/datasets/orl.py).
    """

    names: tuple[str, ...] = ("view_1", "view_2", "intra_1", "intra_2", "inter_1", "inter_2")

    def __init__(
        self,
        photo_views: ImageViews,
        boxes: pd.DataFrame,
        pairs: pd.DataFrame,
        *,
        patch_size: int,
        jitter: Literal["one", "both"] = "one",
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
    ) -> None:
        """
        Args:
            photo_views: draws the two views of the whole photo.
            boxes: image, roi, x0, y0, x1, y1; sorted by image and roi, the roi of an image numbered from 0.
            pairs: image, rank, neighbor, roi, neighbor_roi; sorted by image and rank.
            patch_size: side of the four RoI views in pixels.
            jitter: "one": `intra_1` is the box as it is, and `intra_2` must overlap it with an IoU over 0.5 (official
                code); "both": both are jittered and may lie anywhere within reach (paper).
            photometry: colour operations of the first and of the second patch.

        Raises:
            ValueError: a photo has no box or no pair, or the two tables do not fit each other.
        """
        if jitter not in ("one", "both"):
            raise ValueError(f'jitter={jitter!r} is unknown: pass "one" (official code) or "both" (paper).')
        images = len(photo_views.sizes)
        self._photo_views, self._patch_size = photo_views, patch_size
        self._jitter, self._photometry = jitter, photometry

        # image -> rows of its boxes; image -> its neighbours; neighbour -> rows of its pairs.
        box_start = _starts(boxes["image"].to_numpy(), images, "box")
        roi = np.arange(len(boxes)) - box_start[boxes["image"].to_numpy()]
        if not np.array_equal(boxes["roi"].to_numpy(), roi):
            raise ValueError(f"boxes are not sorted by image and numbered by roi from 0. {_REMEDY}")
        owner, rank = pairs["image"].to_numpy(), pairs["rank"].to_numpy()
        _starts(owner, images, "pair")
        first = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]) | (rank[1:] != rank[:-1])])
        for column, holder in (("roi", "image"), ("neighbor_roi", "neighbor")):
            # An image beyond the last has no boxes.
            boxes_of = np.r_[np.diff(box_start), 0][np.minimum(pairs[holder].to_numpy(), images)]
            wrong = pairs[column].to_numpy() >= boxes_of
            if wrong.any():
                row = pairs.iloc[int(wrong.argmax())]
                raise ValueError(f"a pair names {column} {row[column]} of image {row[holder]}: no such box. {_REMEDY}")

        self._box_start = _shared(box_start)
        self._boxes = _shared(boxes[["x0", "y0", "x1", "y1"]].to_numpy(np.int32))
        self._neighbor_start = _shared(_starts(owner[first], images, "pair"))
        self._neighbors = _shared(pairs["neighbor"].to_numpy(np.int32)[first])
        self._pair_start = _shared(np.r_[first, len(pairs)])
        self._pairs = _shared(pairs[["roi", "neighbor_roi"]].to_numpy(np.int32))

    @classmethod
    def from_artifacts(
        cls,
        photo_views: ImageViews,
        regions: Path,
        correspondence: Path,
        *,
        patch_size: int,
        jitter: Literal["one", "both"] = "one",
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
    ) -> OrlViews:
        """ORL's views from `boxes.parquet` in `regions` and `pairs.parquet` in `correspondence`."""
        boxes = pd.read_parquet(regions / "boxes.parquet", columns=["image", "roi", "x0", "y0", "x1", "y1"])
        columns = ["image", "rank", "neighbor", "roi", "neighbor_roi"]
        pairs = pd.read_parquet(correspondence / "pairs.parquet", columns=columns)
        return cls(photo_views, boxes, pairs, patch_size=patch_size, jitter=jitter, photometry=photometry)

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        views = self._photo_views.plan(rng, image)

        width, height = self._photo_views.photo_size(image)
        box = self._box(image, _draw_row(rng, self._box_start, image) - int(self._box_start[image]))
        if self._jitter == "one":
            intra = box, jitter_box(rng, box, width, height, min_iou=0.5)
        else:
            intra = (
                jitter_box(rng, box, width, height, min_iou=None),
                jitter_box(rng, box, width, height, min_iou=None),
            )

        row = _draw_row(rng, self._neighbor_start, image)
        neighbor = int(self._neighbors[row])
        roi, neighbor_roi = self._pairs[_draw_row(rng, self._pair_start, row)].tolist()

        for name, photo, patch_box, photometry in (
            ("intra_1", image, intra[0], self._photometry[0]),
            ("intra_2", image, intra[1], self._photometry[1]),
            ("inter_1", image, self._box(image, roi), self._photometry[0]),
            ("inter_2", neighbor, self._box(neighbor, neighbor_roi), self._photometry[1]),
        ):
            views[name] = draw_view(rng, photo, patch_box, self._patch_size, photometry)
        return views

    def _box(self, image: int, roi: int) -> Box:
        x0, y0, x1, y1 = self._boxes[int(self._box_start[image]) + roi].tolist()
        return x0, y0, x1, y1


def _shared(array: np.ndarray) -> Tensor:
    """A tensor instead of an array because PyTorch hands tensors to worker processes through shared memory.

    So a table is held once, however many workers read it.
    """
    return torch.from_numpy(np.ascontiguousarray(array)).clone()


def _starts(images: np.ndarray, count: int, thing: str) -> np.ndarray:
    """(count + 1,) int64: the rows of image i are start[i] .. start[i + 1], for a sorted column of image numbers."""
    if len(images) and (images[0] < 0 or images[-1] >= count or (images[1:] < images[:-1]).any()):
        raise ValueError(f"the table of {thing} rows is not sorted by image within 0 .. {count - 1}. {_REMEDY}")
    starts = np.searchsorted(images, np.arange(count + 1))
    empty = np.flatnonzero(starts[1:] == starts[:-1])
    if len(empty):
        raise ValueError(
            f"image {empty[0]} (its row in images.parquet; {len(empty)} of {count} images in all) has no {thing}, "
            f"but ORL draws one of every photo in every epoch. {_REMEDY}"
        )
    return starts


def _draw_row(rng: np.random.Generator, starts: Tensor, item: int) -> int:
    """A uniformly drawn row of those that belong to `item`."""
    first, end = starts[item : item + 2].tolist()
    return int(rng.integers(first, end))
