"""Part (b): samples and pixels a second that one core makes of 640 x 480 JPEGs, by the real loader, for each objective.

A way gives one batch of all photos in this process: everything that a data worker does, from the file to the batch.
`byol` draws two views of a photo, `detcon` the same two and where they show which of its regions, `orl` five of a photo
and one of another, which it must decode too. `per_sample` is the time of a sample as times BYOL's, `per_pixel` that
divided by the pixels drawn as times BYOL's. Beside each stands torchvision on PIL, which does the same as the papers'
official codes do: photos are opened, and each view is made by a chain of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.objectives.peers import PeerDetcon, PeerImage, PeerOrl
from benchmarks.objectives.photos import ObjectPhotos
from benchmarks.rounds import alternate, summary
from benchmarks.training.views import _one_thread as one_thread
from stages.config.recipes import DetconB, Orl
from stages.data.loading import Renderer, training_loader
from stages.data.policies import ImageViews, MaskedViews, OrlViews, Policy

_SIZE, _PATCH, _CELLS = Orl().global_size, Orl().patch_size, 7  # a ResNet's map at 224
_LAST_STEP = 10**6  # of loaders that are asked for one batch after another
_BASE = "byol"
_PIXELS = {"byol": 2 * _SIZE**2, "detcon": 2 * _SIZE**2, "orl": 2 * _SIZE**2 + 4 * _PATCH**2}
RENDERERS: dict[str, Renderer] = {"ours": "cpu", "ours_device": "device"}
_PEER = "torchvision_pil"


def measure(photos: ObjectPhotos, rounds: int) -> dict[str, Any]:
    """Figures by objective, as JSON values."""
    samples = len(photos.catalog)
    with one_thread():
        ways = _ways(photos)
        seconds = alternate({f"{name} {side}": way for (name, side), way in ways.items()}, rounds)
    found: dict[str, Any] = {}
    for name, pixels in _PIXELS.items():
        figures: dict[str, Any] = {"pixels": pixels / _PIXELS[_BASE]}
        for side in (*RENDERERS, _PEER):
            taken, base = seconds[f"{name} {side}"], seconds[f"{_BASE} {side}"]
            figures[side] = {
                "samples_per_second": summary(samples / taken),
                "per_sample": summary(taken / base),
                "per_pixel": summary(taken / base * _PIXELS[_BASE] / pixels),
            }
            if side != _PEER:
                figures[side]["times_as_fast"] = summary(seconds[f"{name} {_PEER}"] / taken)
        found[name] = figures
    return found | {"rounds": rounds}


def policies(photos: ObjectPhotos) -> dict[str, Policy]:
    """What each objective is shown, with the papers' sizes."""
    sizes, detcon = photos.catalog.sizes, DetconB()
    two = ImageViews(sizes, size=_SIZE)
    return {
        "byol": two,
        "detcon": MaskedViews(two, photos.masks, regions=detcon.regions, pooling=detcon.pooling, cells=_CELLS),
        "orl": OrlViews(two, photos.regions, photos.correspondence, patch_size=_PATCH),
    }


def _ways(photos: ObjectPhotos) -> dict[tuple[str, str], Callable[[], object]]:
    catalog = photos.catalog
    ways: dict[tuple[str, str], Callable[[], object]] = {}
    for name, policy in policies(photos).items():
        for side, renderer in RENDERERS.items():
            loader: Any = training_loader(
                catalog, policy, seed=0, batch_size=len(catalog), first_step=0, last_step=_LAST_STEP, workers=0,
                renderer=renderer,
            )  # fmt: skip
            ways[name, side] = partial(next, iter(loader))
    regions, cells = DetconB().regions, _CELLS
    peers: dict[str, Dataset] = {
        "byol": PeerImage(photos, _SIZE),
        "detcon": PeerDetcon(photos, _SIZE, regions, cells),
        "orl": PeerOrl(photos, _SIZE, _PATCH),
    }
    for name, peer in peers.items():
        ways[name, _PEER] = _whole(DataLoader(peer, batch_size=len(catalog)))
    return ways


def _whole(loader: DataLoader) -> Callable[[], torch.Tensor]:
    return lambda: next(iter(loader))
