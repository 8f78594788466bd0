"""Views of a photo, of its regions and of their matches in other photos."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

from stages.data.box_geometry import jitter_box
from stages.data.policies.image_views import ImageViews, Pair
from stages.data.policies.photo_boxes import PhotoBoxes
from stages.data.policies.photo_pairs import PhotoPairs
from stages.data.policies.policy import Policy
from stages.data.uniform import one_of
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, View, draw_view, part_rng

PARTS = ("image", "intra", "inter")


class OrlViews(Policy):
    """ORL's six views: two of the photo, two of one of its RoIs, and one RoI with its match in a neighbouring photo.

    Part `image`: `view_1`, `view_2` come from `photo_views`. Part `intra`: `intra_1`, `intra_2` show a uniformly drawn
    box of the photo. Part `inter`: `inter_1`, `inter_2` show a pair of boxes, of the photo and of a neighbour: the
    neighbour is uniform over those that have pairs, the pair uniform over the neighbour's. RoIs are resized whole,
    without another random crop. The first of two patches gets the colours of view 1, the second those of view 2.

    Each part draws from numbers of its own: it is the same whichever other parts there are, and `image` is what
    `photo_views` draws alone. Fewer neighbours or pairs change the boxes of `inter`, and nothing else.

    Source: ORL (arXiv:2106.11952), section 3.1, stage 3, and the official code (openselfsup/datasets/orl.py).
    """

    def __init__(
        self,
        photo_views: ImageViews,
        regions: Path | None,
        correspondence: Path | None,
        *,
        patch_size: int,
        jitter: Literal["one", "both"] = "one",
        neighbors: int | None = None,
        pairs: float = 1.0,
        parts: Collection[str] = PARTS,
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
    ) -> None:
        """
        Args:
            photo_views: draws the views of the whole photo.
            regions: directory of the boxes, see `PhotoBoxes`; None where neither `intra` nor `inter` is wanted.
            correspondence: directory of the pairs, see `PhotoPairs`; None where `inter` is not wanted.
            patch_size: side of the four RoI views in pixels.
            jitter: "one": `intra_1` is the box as it is, and `intra_2` must overlap it with an IoU over 0.5 (official
                code); "both": both are jittered and may lie anywhere within reach (paper).
            neighbors, pairs: draw from the nearest `neighbors` of each photo alone, and from the most similar share
                `pairs` of what was mined with each, at least one (table 5b). None and 1: from all.
            parts: those of PARTS to draw; the views of the others are not drawn (table 5a).
            photometry: colour operations of the first and of the second patch.

        Raises:
            ValueError: a photo has no box or no pair, the files do not fit each other or the photos, files are missing
                for a part, or there are fewer neighbours than asked for.
        """
        if jitter not in ("one", "both"):
            raise ValueError(f'jitter={jitter!r} is unknown: pass "one" (official code) or "both" (paper).')
        if not parts or not set(parts) <= set(PARTS):
            raise ValueError(f"parts={tuple(parts)!r}: name at least one of {', '.join(PARTS)}, and none but these.")
        self._photo_views, self._patch_size = photo_views, patch_size
        self._jitter, self._photometry = jitter, photometry
        self._parts = tuple(part for part in PARTS if part in parts)
        names = {"image": photo_views.names, "intra": ("intra_1", "intra_2"), "inter": ("inter_1", "inter_2")}
        self.names: tuple[str, ...] = sum((names[part] for part in self._parts), ())

        images = len(photo_views.sizes)
        if self._parts != ("image",):
            if regions is None:
                raise ValueError(_missing("regions", "boxes", self._parts))
            self._boxes = PhotoBoxes(regions, images)
        if "inter" in self._parts:
            if correspondence is None:
                raise ValueError(_missing("correspondence", "pairs", self._parts))
            self._pairs = PhotoPairs(correspondence, self._boxes, images, neighbors=neighbors, share=pairs)

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        # Before anything is drawn from `rng`, which the views of the photo do.
        intra_rng, inter_rng = part_rng(rng, 1), part_rng(rng, 2)
        views: dict[str, View] = {}
        if "image" in self._parts:
            views |= self._photo_views.plan(rng, image)
        if "intra" in self._parts:
            views |= self._intra(intra_rng, image)
        if "inter" in self._parts:
            views |= self._inter(inter_rng, image)
        return views

    def _intra(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        width, height = self._photo_views.photo_size(image)
        box = self._boxes.box(image, one_of(rng.random(), self._boxes.count(image)))
        if self._jitter == "one":
            first, second = box, jitter_box(rng, box, width, height, min_iou=0.5)
        else:
            first, second = (jitter_box(rng, box, width, height, min_iou=None) for _ in range(2))
        return {
            "intra_1": draw_view(rng, image, first, self._patch_size, self._photometry[0]),
            "intra_2": draw_view(rng, image, second, self._patch_size, self._photometry[1]),
        }

    def _inter(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        pair = self._pairs.pick(image, *rng.random(2).tolist())
        first, second = self._boxes.box(image, pair.roi), self._boxes.box(pair.neighbor, pair.neighbor_roi)
        return {
            "inter_1": draw_view(rng, image, first, self._patch_size, self._photometry[0]),
            "inter_2": draw_view(rng, pair.neighbor, second, self._patch_size, self._photometry[1]),
        }


def _missing(argument: str, things: str, parts: tuple[str, ...]) -> str:
    return (
        f"{argument}=None, but the parts {', '.join(parts)} need {things}: pass the directory of a `{argument}` "
        "artifact, or leave out the parts that need it."
    )
