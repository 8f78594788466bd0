"""Random crops of a whole photo."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stages.data.box_geometry import scene_crop
from stages.data.policies.policy import Policy
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, Photometry, View, draw_view

Pair = tuple[Photometry, Photometry]


class ImageViews(Policy):
    """Two random crops of the whole photo: BYOL (arXiv:2006.07733, appendix B), SimCLR, MoCo and their kin.

    With `small_views`, multi-crop: `small_1`, `small_2`, ... are as many smaller views more, of small crops. The two
    large views stay what they are without.

    Source of multi-crop: SwAV (arXiv:2006.09882), section 3.2, whose small crops are 96 pixels and 5 to 14 % of the
    photo; ORL (arXiv:2106.11952), table 5c, gives BYOL four of them. ORL does not say from which range the large crops
    come: here they are BYOL's own, so that the small ones are all that differs from BYOL (SwAV's start at 14 %).
    Colours alternate between those of view 1 and of view 2, as they do in the four patches of ORL that these views
    stand beside.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        *,
        size: int,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
        small_views: int = 0,
        small_size: int = 96,
        small_scale: tuple[float, float] = (0.05, 0.14),
    ) -> None:
        """
        Args:
            sizes: (N, 2) width and height of each photo in pixels (`Catalog.sizes`).
            size: side of a view in pixels.
            scale, ratio: area (as a fraction of the photo) and width / height of a crop; see `scene_crop`.
            photometry: colour operations of view 1 and of view 2.
            small_views, small_size, small_scale: number of small views, their side in pixels and their crops' area.
        """
        self.sizes = shared(sizes)
        self._ratio, self._photometry = ratio, photometry
        crops = {"view_1": (size, scale), "view_2": (size, scale)}
        self._crops = crops | {f"small_{number}": (small_size, small_scale) for number in range(1, small_views + 1)}
        self.names: tuple[str, ...] = tuple(self._crops)

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        width, height = self.photo_size(image)
        views = {}
        for number, (name, (size, scale)) in enumerate(self._crops.items()):
            box = scene_crop(rng, width, height, scale, self._ratio)
            views[name] = draw_view(rng, image, box, size, self._photometry[number % 2])
        return views

    def photo_size(self, image: int) -> tuple[int, int]:
        """Width and height of photo `image` in pixels."""
        width, height = self.sizes[image].tolist()
        return width, height


def shared(array: np.ndarray) -> Tensor:
    """A tensor instead of an array because PyTorch hands tensors to worker processes through shared memory.

    So a table is held once, however many workers read it.
    """
    return torch.from_numpy(np.array(array))
