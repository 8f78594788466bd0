"""Feature maps of whole photos, one photo at a time, each as fine as is asked for."""

from __future__ import annotations

import numpy as np
import torch

from stages.correspondence.crops import cut
from stages.data.masks.segmentation import Size
from stages.data.photos import Photos
from stages.evaluation.pyramid import Pyramid
from stages.learning.backbones import Backbone
from stages.learning.devices import resolve_device


class PhotoMaps:
    """A network and the size at which it is shown photos.

    Args:
        depth: a name of `Pyramid.names`; None: the last.
        output_stride: see `Pyramid`.
        cells: of the map along the longer side of a photo.

    Attributes:
        depth: the name.

    Raises:
        ValueError: the network has no such map.
    """

    def __init__(self, backbone: Backbone, depth: str | None, output_stride: int, cells: int, device: str) -> None:
        self._device = resolve_device(device)
        self._pyramid = Pyramid(backbone, output_stride=output_stride).to(self._device).eval()
        names = self._pyramid.names
        if depth is not None and depth not in names:
            raise ValueError(f"discovery.depth={depth!r} is no map of this network. It has {', '.join(names)}.")
        self.depth = depth or names[-1]
        self._number, self._cells = names.index(self.depth), cells

    def shown_size(self, size: Size) -> Size:
        """Width and height in pixels at which a photo of `size` is shown: whole cells, the longer side `cells`."""
        stride, longer = self._pyramid.strides[self._number], max(size)
        width, height = (max(1, round(side * self._cells / longer)) * stride for side in size)
        return width, height

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> np.ndarray:
        """(1, 3, H, W) uint8 -> (C, h, w) float32."""
        maps = self._pyramid(self._pyramid.normalise(pixels.to(self._device)))
        return maps[self._number][0].float().cpu().numpy()


def shown(photos: Photos, size: Size, image: int) -> torch.Tensor:
    """The whole photo resized to `size`, whatever its shape: (1, 3, height, width) uint8 RGB."""
    pixels = photos.open(image).pixels
    return cut(pixels, np.array([[0, 0, pixels.shape[1], pixels.shape[0]]]), *size)
