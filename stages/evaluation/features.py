"""Features of whole photos at several depths of a frozen encoder: what all classifiers on features share.

One pass decodes each photo once for all depths. `gap` is the global average of the last map. The others are those of
OpenSelfSup and VISSL for ResNets (Goyal et al. 2019, arXiv:1905.01235, section 6.1): each map averaged over overlapping
windows to about 9,000 numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as F

from stages.data.catalog import Catalog, Roots
from stages.data.loading import photo_loader
from stages.data.mapped import Mapped
from stages.data.photos import Photos
from stages.data.workers import make_loader
from stages.evaluation.encoders import open_backbone
from stages.evaluation.growing_files import GrowingFiles
from stages.evaluation.pyramid import Pyramid
from stages.learning.devices import resolve_device
from stages.report import Report

GAP = "gap"
PICTURES = ("squeeze", "crop")
_ABOUT_FILE = "features.json"


@dataclass(frozen=True)
class _Windows:
    """Average pooling of a map of `side` cells, as an image of 224 pixels has it: window, stride, zeros around it."""

    side: int
    window: int
    stride: int
    padding: int


# Of OpenSelfSup's benchmarks/extract_info/voc07.py, which ORL uses, and of VISSL's feature extraction.
_POOLS = {
    "conv1": _Windows(112, 10, 10, 4),  # 12 x 12 cells
    "layer1": _Windows(56, 16, 8, 0),  # 6 x 6
    "layer2": _Windows(28, 13, 5, 0),  # 4 x 4
    "layer3": _Windows(14, 8, 3, 0),  # 3 x 3
    "layer4": _Windows(7, 6, 1, 0),  # 2 x 2
}


def run(
    *,
    out: Path,
    report: Report,
    encoder: dict[str, Any],
    catalog: Path,
    root: Roots,
    picture: str,
    resize: int,
    crop: int,
    depths: Sequence[str],
    batch_size: int,
    device: str,
    workers: int,
) -> None:
    """Writes `{depth}.npy`, (N, D) float32 a depth, rows in the order of the catalog, and `features.json`: what they
    are features of. An interrupted run goes on where it was.

    Args:
        encoder: arguments of `open_backbone`.
        catalog, root: the photos.
        picture: "squeeze": the shorter side to `resize` pixels, then the whole photo into a square of `crop`, whatever
            its shape, as OpenSelfSup and ORL do for VOC07. "crop": the shorter side to `resize`, then the centre.
        depths: "gap"; of ResNets also "conv1", "layer1", ... "layer4".
        workers: processes that decode; 0 does it in this one.

    Raises:
        ValueError: an unknown `picture`, a crop larger than `resize`, a depth that the encoder does not have, or an
            encoder whose features are not finite.
        RuntimeError: a photo is gone, broken or changed since the catalog was made.
    """
    photos = Catalog(catalog, root)
    where = resolve_device(device)
    pyramid = Pyramid(open_backbone(**encoder)).eval().to(where).to(memory_format=torch.channels_last)
    dims = feature_dims(pyramid, depths)
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    with GrowingFiles(out, scratch / "rows.json", dims, len(photos)) as files:
        loader = _pictures(photos, picture, resize, crop, batch_size=batch_size, workers=workers, first=files.rows)
        for numbers, pixels in loader:
            features = depth_features(pyramid, pixels.to(where, non_blocking=True), depths)
            _check(numbers, files.rows, features, encoder)
            files.append(features)
            report.progress(files.rows, len(photos), "photos")
    about = {"picture": picture, "resize": resize, "crop": crop, "photos": len(photos), "dims": dims}
    (out / _ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n")
    report.metric(photos=len(photos), dims=dims)


def feature_dims(pyramid: Pyramid, depths: Sequence[str]) -> dict[str, int]:
    """D of each of `depths`.

    Raises:
        ValueError: there is none, or one that this network does not have.
    """
    channels = dict(zip(pyramid.names, pyramid.channels, strict=True))
    known = [GAP, *(name for name in pyramid.names if name in _POOLS)]
    unknown = [depth for depth in depths if depth not in known]
    if unknown or not depths:
        raise ValueError(
            f"depths {unknown or 'are missing'}: {pyramid.backbone.name} has features at {', '.join(known)}. Choose "
            f"among them; '{GAP}' is there for every network."
        )
    return {
        depth: pyramid.channels[-1] if depth == GAP else channels[depth] * _cells(_POOLS[depth]) ** 2
        for depth in depths
    }


@torch.inference_mode()
def depth_features(pyramid: Pyramid, pixels: Tensor, depths: Sequence[str]) -> dict[str, np.ndarray]:
    """(N, D) float32 at each of `depths`, from one pass. pixels: (N, 3, H, W) uint8 RGB, where the pyramid is."""
    maps = pyramid(pyramid.normalise(pixels))
    by_name = dict(zip(pyramid.names, maps, strict=True))
    rows = {depth: maps[-1].mean(dim=(2, 3)) if depth == GAP else pooled(by_name[depth], depth) for depth in depths}
    return {depth: row.float().cpu().numpy() for depth, row in rows.items()}


def pooled(feature_map: Tensor, depth: str) -> Tensor:
    """The official average pooling of the map at `depth`, laid end to end. (N, C, h, w) -> (N, C * cells).

    On maps of 224-pixel images this is `AvgPool2d`. On others each cell is the mean over the same share of the picture,
    so that a network, not a picture's size, decides how long the features are.
    """
    rows, columns = (_averaging(side, _POOLS[depth]).to(feature_map) for side in feature_map.shape[2:])
    return torch.einsum("nchw,ih,jw->ncij", feature_map, rows, columns).flatten(1)  # (N, C cells cells)


def _cells(windows: _Windows) -> int:
    """Windows a side."""
    return (windows.side + 2 * windows.padding - windows.window) // windows.stride + 1


def _averaging(side: int, windows: _Windows) -> Tensor:
    """(cells, side) float32: how much of each place of a map is in the mean of each window. Places that a window covers
    in part count in part; zeros around the map count as places."""
    scale = side / windows.side
    starts = (torch.arange(_cells(windows)) * windows.stride - windows.padding)[:, None] * scale
    ends = starts + windows.window * scale
    place = torch.arange(side)
    covered = (torch.minimum(ends, place + 1.0) - torch.maximum(starts, place.float())).clamp(min=0)
    return covered / (windows.window * scale)


def open_features(directory: Path, depth: str, photos: Catalog) -> np.ndarray:
    """The features of `photos` at `depth`, memory-mapped. (N, D) float32.

    Raises:
        ValueError: the artifact has no such depth, or is of other photos.
    """
    about = describe_features(directory)
    if depth not in about["dims"]:
        raise ValueError(f"{directory} has features at {', '.join(about['dims'])}, and none at '{depth}': add it.")
    rows = Mapped(directory / f"{depth}.npy").array
    if len(rows) != len(photos):
        raise ValueError(
            f"{directory} holds features of {len(rows)} photos, but the catalog {photos.directory} has {len(photos)}: "
            "they are not of one run. Make the features of this catalog."
        )
    return rows


def describe_features(directory: Path) -> dict[str, Any]:
    """How the features were made: picture, resize, crop, photos, and `dims` of each depth."""
    return json.loads((directory / _ABOUT_FILE).read_text())


def _check(numbers: Tensor, due: int, features: dict[str, np.ndarray], encoder: dict[str, Any]) -> None:
    if int(numbers[0]) != due or int(numbers[-1]) != due + len(numbers) - 1:
        raise RuntimeError(f"photo {int(numbers[0])} came where {due} was due: the loader dropped or repeated some")
    broken = [depth for depth, rows in features.items() if not np.isfinite(rows).all()]
    if broken:
        raise ValueError(
            f"the encoder {encoder} gives features that are not finite at {', '.join(broken)}, from photo {due} on: "
            "its training diverged or its file is damaged. Use an earlier checkpoint or another file."
        )


def _pictures(
    photos: Catalog, picture: str, resize: int, crop: int, *, batch_size: int, workers: int, first: int
) -> DataLoader:
    """Batches (numbers (B,) int64, (B, 3, crop, crop) uint8 RGB) from photo `first` on."""
    if picture == "crop":
        return photo_loader(photos, resize=resize, crop=crop, batch_size=batch_size, workers=workers, first=first)
    if picture != "squeeze":
        raise ValueError(f"picture '{picture}' is not known. Choose one of {', '.join(PICTURES)}.")
    remaining = range(first, len(photos))
    return make_loader(_Squeezed(photos, resize, crop), workers, batch_size=batch_size, sampler=remaining)


class _Squeezed(Dataset):
    """Photos in a square of `side` pixels. Two steps, by PIL and bilinear both, as in the official code."""

    def __init__(self, catalog: Catalog, resize: int, side: int) -> None:
        self._photos, self._resize, self._side = Photos(catalog), resize, side

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, image: int) -> tuple[int, Tensor]:
        photo = F.resize(self._photos.decode(image), self._resize, F.InterpolationMode.BILINEAR)
        return image, F.pil_to_tensor(F.resize(photo, [self._side, self._side], F.InterpolationMode.BILINEAR))
