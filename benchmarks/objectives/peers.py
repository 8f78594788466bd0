"""The same views as the official codes make them: torchvision on PIL pictures, a chain of transforms a view."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from benchmarks.objectives.photos import ObjectPhotos
from benchmarks.training.peers import Crop, open_pil, torchvision_pil
from stages.data.masks import Masks
from stages.data.views import BYOL_VIEW_1, BYOL_VIEW_2, FLIP_PROBABILITY

_SCALE = (0.08, 1.0)
_PHOTOMETRIES = (BYOL_VIEW_1, BYOL_VIEW_2)


class PeerImage(Dataset):
    """BYOL's two views of each photo."""

    def __init__(self, photos: ObjectPhotos, size: int) -> None:
        self._open, self._photos = open_pil(photos.photos.paths()), len(photos.catalog)
        self._views = [torchvision_pil(Crop(size, _SCALE, colors), "bilinear") for colors in _PHOTOMETRIES]

    def __len__(self) -> int:
        return self._photos

    def __getitem__(self, image: int) -> list[Tensor]:
        photo = self._open(image)
        return [view(photo) for view in self._views]


class PeerOrl(PeerImage):
    """ORL's six, in the order of its official code: the neighbour is decoded, boxes are cut out and resized whole."""

    def __init__(self, photos: ObjectPhotos, size: int, patch: int) -> None:
        super().__init__(photos, size)
        self._corners, self._starts = (np.load(photos.regions / f"{name}.npy") for name in ("corners", "starts"))
        self._neighbors = np.load(photos.correspondence / "pair_neighbors.npy")
        self._patches = [_resized(patch, number) for number in (0, 1)]

    def __getitem__(self, image: int) -> list[Tensor]:
        neighbor = int(random.choice(self._neighbors[image]))
        photo, other = self._open(image), self._open(neighbor)
        box = self._box(image)
        cut = [photo.crop(box), photo.crop(box), photo.crop(self._box(image)), other.crop(self._box(neighbor))]
        patches = [self._patches[number % 2](picture) for number, picture in enumerate(cut)]
        return [*(view(photo) for view in self._views), *patches]

    def _box(self, image: int) -> tuple[int, int, int, int]:
        return tuple(self._corners[random.randrange(self._starts[image], self._starts[image + 1])].tolist())


class PeerDetcon(PeerImage):
    """BYOL's two, and R regions of each in the cells of the feature map: one-hot, average pooled, the largest wins."""

    def __init__(self, photos: ObjectPhotos, size: int, regions: int, cells: int) -> None:
        super().__init__(photos, size)
        self._masks, self._size, self._regions, self._cells = Masks(photos.masks), size, regions, cells
        # What follows the crop and the flip, which masks and picture share.
        self._colors = [v1.Compose(view.transforms[2:]) for view in self._views]

    def __getitem__(self, image: int) -> list[Tensor]:
        photo = self._open(image)
        labels = self._masks.labels(image, random.randrange(len(self._masks.layers)))
        regions = Image.fromarray(labels.astype(np.int32))
        made: list[Tensor] = []
        for colors in self._colors:
            window = v1.RandomResizedCrop.get_params(photo, list(_SCALE), [3 / 4, 4 / 3])
            view = TF.resized_crop(photo, *window, [self._size] * 2, InterpolationMode.BILINEAR)
            shown = TF.resized_crop(regions, *window, [self._size] * 2, InterpolationMode.NEAREST)
            if random.random() < FLIP_PROBABILITY:
                view, shown = TF.hflip(view), TF.hflip(shown)
            made += [colors(view), *self._drawn(torch.from_numpy(np.array(shown)))]
        return made

    def _drawn(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """labels: (S, S). Returns (R, G, G) float32 and (R,) int64."""
        numbers, places = labels.unique(return_inverse=True)
        shares = F.one_hot(places, len(numbers)).permute(2, 0, 1).float()  # (k, S, S)
        winners = F.adaptive_avg_pool2d(shares, self._cells).argmax(dim=0)  # (G, G)
        alive = winners.unique()
        drawn = alive[torch.randint(len(alive), (self._regions,))]
        return (winners == drawn[:, None, None]).float(), numbers[drawn].long()


def _resized(patch: int, number: int) -> v1.Compose:
    """A box as it is, squeezed into a square, and the colours of view `number`."""
    chain = torchvision_pil(Crop(patch, (1.0, 1.0), _PHOTOMETRIES[number]), "bilinear")
    return v1.Compose([v1.Resize((patch, patch)), *chain.transforms[1:]])
