"""Object-aware crops: one view of an object, another of its surroundings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stages.data.box_geometry import Box, crop_of_box, dilate_box, shift_box, widen_box
from stages.data.policies.image_views import Pair, shared
from stages.data.policies.photo_boxes import PHOTOS_AT_A_TIME, PhotoBoxes
from stages.data.policies.policy import Policy
from stages.data.uniform import one_of
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, Photometry, View, draw_view

CropMode = Literal["scene_scene", "obj_scene", "obj_obj_dilate", "obj_obj_shift"]

# The paper's bound exceeds 1 where boxes cover less than scene crops at their smallest; crops must be able to vary.
_HIGHEST_MIN_CROP = 0.9


class ObjectCrops(Policy):
    """Two random crops, `view_1` of an object box and `view_2` of what belongs with it; any image-level method takes
    them.

    The object box is uniform over the first `proposals` boxes of the photo, and widened to `min_box` pixels where it is
    smaller. Boxes come in the order of step `regions`: BING's and Edge-Boxes' best first, selective search's with as
    much chance as its ranks have. View 2 is a crop of

    * `obj_scene`: the whole photo;
    * `obj_obj_dilate`: the object box, dilated by a share of the photo (the paper's best);
    * `obj_obj_shift`: the object box, shifted; of the whole photo where there is no room to shift it;
    * `scene_scene`: the whole photo, and so is view 1: what `ImageViews` draws, to compare with.

    Crops of boxes take at least `min_crop` of their box, so that they get no smaller than scene crops get:
    min_crop = scene_min_crop / (mean share of the photo that object boxes cover), the paper's S_min, 0.51 for its boxes
    of COCO, at most 0.9. (Of boxes so long that no such crop has an allowed ratio, it is the central one of
    `scene_crop`.) View 1 is the same in the three modes with boxes.

    Source: object-aware cropping (Mishra et al., arXiv:2112.00319), section 3 and appendix G. The released code differs
    from the paper in most of this, and is not followed; see docs/fidelity.md.

    Attributes:
        min_crop: the lower bound in use for crops of boxes.
        box_share: mean share of the photo that the object boxes cover, widened ones as they are used, a photo counting
            as much as another; None where `min_crop` was given or nothing is cropped from boxes.
    """

    names: tuple[str, ...] = ("view_1", "view_2")

    def __init__(
        self,
        sizes: np.ndarray,
        regions: Path | None,
        *,
        size: int,
        mode: CropMode,
        dilation: float = 0.1,
        shift: tuple[float, float] = (80, 100),
        proposals: int = 10,
        min_crop: float | None = None,
        scene_min_crop: float = 0.2,
        min_box: int = 224,
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        photometry: Pair = (BYOL_VIEW_1, BYOL_VIEW_2),
    ) -> None:
        """
        Args:
            sizes: (N, 2) width and height of each photo in pixels (`Catalog.sizes`).
            regions: directory of the boxes, see `PhotoBoxes`; None for `scene_scene`, which needs none.
            size: side of a view in pixels.
            dilation: share of the photo's width and height, see `dilate_box`. COCO 0.1, OpenImages 0.2 (appendix G).
            shift: least and greatest distance in pixels of the photo, see `shift_box`.
            proposals: how many boxes of a photo to draw from (table 8).
            min_crop: smallest share of a box that a crop of it takes; None: matched, see above.
            scene_min_crop: smallest share of a photo that a crop of it takes (MoCo v2's).
            min_box: least sides of the object box in pixels of the photo, see `widen_box`.
            ratio: width / height of a crop, see `scene_crop`.
            photometry: colour operations of view 1 and of view 2.

        Raises:
            ValueError: the mode is unknown, boxes are missing or do not fit the photos, or `proposals` is below 1.
        """
        if mode not in get_args(CropMode):
            raise ValueError(f"mode={mode!r} is unknown. There are: {', '.join(get_args(CropMode))}.")
        self.sizes = shared(sizes)
        self._size, self._mode, self._dilation, self._shift = size, mode, dilation, shift
        self._scene_min_crop, self._min_box = scene_min_crop, min_box
        self._ratio, self._photometry = ratio, photometry
        self._proposals = proposals
        self._boxes: PhotoBoxes | None = None
        self.box_share: float | None = None
        self.min_crop = scene_min_crop
        if mode == "scene_scene":
            return
        if regions is None:
            raise ValueError(
                f"regions=None, but mode={mode!r} crops boxes: pass the directory of a `regions` artifact, or use "
                'mode="scene_scene".'
            )
        if proposals < 1:
            raise ValueError(f"proposals={proposals}: draw from at least 1 box of each photo.")
        self._boxes = PhotoBoxes(regions, len(sizes))
        if min_crop is None:
            self.box_share = mean_box_share(self._boxes, np.asarray(sizes), proposals, min_box)
            min_crop = min(scene_min_crop / self.box_share, _HIGHEST_MIN_CROP)
        self.min_crop = min_crop

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]:
        width, height = self.sizes[image].tolist()
        photo = 0, 0, width, height
        box = self._object_box(rng, image, width, height)
        view_1 = self._view(rng, image, box or photo, self.min_crop, self._photometry[0])
        second = None if box is None else self._second_box(rng, box, width, height)
        least = self._scene_min_crop if second is None else self.min_crop
        view_2 = self._view(rng, image, second or photo, least, self._photometry[1])
        return {"view_1": view_1, "view_2": view_2}

    def _object_box(self, rng: np.random.Generator, image: int, width: int, height: int) -> Box | None:
        if self._boxes is None:
            return None
        roi = one_of(rng.random(), min(self._proposals, self._boxes.count(image)))
        return widen_box(self._boxes.box(image, roi), width, height, self._min_box)

    def _second_box(self, rng: np.random.Generator, box: Box, width: int, height: int) -> Box | None:
        """None stands for the whole photo."""
        if self._mode == "obj_obj_dilate":
            return dilate_box(box, width, height, self._dilation)
        if self._mode == "obj_obj_shift":
            return shift_box(rng, box, width, height, distance=self._shift)
        return None

    def _view(self, rng: np.random.Generator, image: int, box: Box, least: float, photometry: Photometry) -> View:
        return draw_view(rng, image, crop_of_box(rng, box, (least, 1.0), self._ratio), self._size, photometry)


def mean_box_share(boxes: PhotoBoxes, sizes: np.ndarray, proposals: int, min_box: int) -> float:
    """Mean share of the photo that its first `proposals` boxes cover, once widened, in (0, 1].

    It is the mean over photos of the mean over a photo's boxes, as they are drawn. sizes: (N, 2) width and height.
    """
    total = 0.0
    for first in range(0, len(sizes), PHOTOS_AT_A_TIME):
        photos = sizes[first : first + PHOTOS_AT_A_TIME]
        starts = boxes.starts[first : first + len(photos) + 1]
        counts = np.minimum(np.diff(starts), proposals)
        photo = np.arange(len(photos)).repeat(counts)
        roi = np.arange(len(photo)) - (counts.cumsum() - counts)[photo]
        corners = boxes.corners[starts[photo] + roi]
        sides = np.clip(corners[:, 2:] - corners[:, :2], min_box, None)
        shares = (np.minimum(sides, photos[photo]) / photos[photo]).prod(axis=1)
        total += float((np.bincount(photo, shares) / counts).sum())
    return total / len(sizes)
