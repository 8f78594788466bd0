"""Two random crops of a whole photo, and where they show which of its regions."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np

from stages.data.masks import Masks
from stages.data.masks.segmentation import LabelRuns, MaskStack
from stages.data.policies.image_views import ImageViews
from stages.data.policies.policy import Policy
from stages.data.region_draws import Pooling, draw_regions, region_shares
from stages.data.views import View


class MaskedViews(Policy):
    """The two views of `photo_views`, and R regions drawn for each: DetCon.

    For each view there are the tables `view_1_masks`, (R, G, G) float32, the regions' weights in the G x G cells of the
    feature map, and `view_1_ids`, (R,) int32, their numbers in the photo: the same region has the same number in both
    views. See `draw_regions` for how they are drawn, each view for itself. Of masks with several layers (scales), both
    views get the same, drawn anew for every sample.

    Masks are read from files, a photo at a time, by all worker processes alike.

    Source: DetCon (arXiv:2103.10957), sections 3.1 and 3.2, and the official code (detcon_b.py, sample_masks).
    """

    names: tuple[str, ...] = ("view_1", "view_2")

    def __init__(self, photo_views: ImageViews, masks: Path, *, regions: int, pooling: Pooling, cells: int) -> None:
        """
        Args:
            photo_views: draws the two views of the whole photo.
            masks: directory of a `masks` artifact.
            regions: R, drawn a view.
            pooling: "hard" (official code), "soft" (paper) or "local" (section 4.4), see `draw_regions`.
            cells: G, side of the feature map that the backbone makes of a view, see `Backbone.map_side`.

        Raises:
            ValueError: the masks are not of these photos, or overlap and are to be pooled hard.
        """
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling={pooling!r} is unknown: pass {' or '.join(map(repr, get_args(Pooling)))}.")
        self._photo_views, self._masks = photo_views, Masks(masks)
        self._regions, self._pooling, self._cells = regions, pooling, cells
        self._masks.check(len(photo_views.sizes))
        if pooling == "hard" and self._masks.kind == "stack":
            raise ValueError(
                f"pooling='hard' gives each cell to one region, and the masks in {masks} may overlap: pass "
                "pooling='soft' or 'local', or masks that divide a photo, such as felzenszwalb."
            )

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        return self._photo_views.plan(rng, image)

    def tables(self, rng: np.random.Generator, views: dict[str, View]) -> dict[str, np.ndarray]:
        photo_regions = self._draw_layer(rng, views["view_1"].image)
        tables = {}
        for name in self.names:
            shares = region_shares(photo_regions, views[name], self._cells)
            drawn = draw_regions(rng, shares, regions=self._regions, pooling=self._pooling)
            tables[f"{name}_masks"], tables[f"{name}_ids"] = drawn
        return tables

    def _draw_layer(self, rng: np.random.Generator, image: int) -> LabelRuns | MaskStack:
        """All regions of the photo, of one layer."""
        found: LabelRuns | MaskStack
        if self._masks.kind == "stack":
            found = self._masks.mask_runs(image)
        else:
            found = self._masks.label_runs(image, int(rng.integers(len(self._masks.layers))))
        size = self._photo_views.photo_size(image)
        if found.size != size:
            raise ValueError(
                f"{self._masks.directory} has masks of {found.size[0]} x {found.size[1]} pixels for photo {image} of "
                f"{size[0]} x {size[1]}: they are not of one run. Run the steps catalog and masks again, in this order."
            )
        return found
