"""Batches of views: drawn already, or packed so that the device draws them; and who makes which.

A batch holds the views' tables too, see `stages.data.policies.Policy`: arrays of the data workers, as tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from stages.data.packing import Buffer, Sheet, Window, empty_bytes, make_sheets
from stages.data.render import Interpolation, Photo, render
from stages.data.render_on_device import draw
from stages.data.unreadable import Unreadable
from stages.data.views import View

Plan = dict[str, View]
OpenPhoto = Callable[[int, int], Photo]


class Batch(Protocol):
    """The views of b samples, and which photos could not be read and were replaced by others."""

    @property
    def unreadable(self) -> list[Unreadable]: ...

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """Name of the view -> (b, 3, S, S) uint8 RGB on `device`; name of the table -> (b, ...), after the views. From
        page-locked memory it does not wait."""


# Tuples, because a DataLoader puts the tensors in a tuple into page-locked memory without being told how.
class DrawnBatch(NamedTuple):
    """views: name -> (b, 3, S, S) uint8 RGB."""

    views: dict[str, Tensor]
    tables: dict[str, Tensor]
    unreadable: list[Unreadable]

    def on(self, device: torch.device) -> dict[str, Tensor]:
        return _moved(self.views | self.tables, device)


class PackedBatch(NamedTuple):
    """The views of b `samples` as `sheets`, whose windows point into `pixels`; see `stages.data.packing`."""

    samples: int
    sizes: dict[str, int]  # of each view, in pixels a side
    pixels: Tensor
    sheets: list[Sheet]
    interpolation: Interpolation
    tables: dict[str, Tensor]
    unreadable: list[Unreadable]

    def on(self, device: torch.device) -> dict[str, Tensor]:
        pixels = self.pixels.to(device, non_blocking=True)
        drawn: dict[int, list[Tensor]] = {}
        for sheet in self.sheets:
            drawn.setdefault(sheet.size, []).append(draw(sheet, pixels, self.interpolation))
        views = {size: iter(torch.cat(parts).split(self.samples)) for size, parts in drawn.items()}
        return {name: next(views[size]) for name, size in self.sizes.items()} | _moved(self.tables, device)


def _moved(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


class Maker(Protocol):
    """Makes a batch in a data worker: `begin`, `add` for each of the samples, `end`."""

    def begin(self, samples: int) -> None: ...

    def add(self, plan: Plan, open_photo: OpenPhoto) -> None:
        """The next sample. Passes on what `open_photo` raises; then there is no such sample yet."""

    def end(self, tables: dict[str, Tensor], unreadable: list[Unreadable]) -> Batch: ...


class Draws:
    """Makes a DrawnBatch. Arguments: see `stages.data.render.render`."""

    def __init__(self, *, scaled_decode: bool, interpolation: Interpolation) -> None:
        self._scaled_decode: bool = scaled_decode
        self._interpolation: Interpolation = interpolation
        self._views: dict[str, Tensor] = {}
        self._samples = self._done = 0

    def begin(self, samples: int) -> None:
        self._views, self._samples, self._done = {}, samples, 0

    def add(self, plan: Plan, open_photo: OpenPhoto) -> None:
        if not self._views:
            self._views = {name: empty_bytes(self._samples, 3, view.size, view.size) for name, view in plan.items()}
        # Right into the batch: collating views costs a twentieth of all that is done for them.
        into = {name: views[self._done] for name, views in self._views.items()}
        render(plan, open_photo, scaled_decode=self._scaled_decode, interpolation=self._interpolation, into=into)
        self._done += 1

    def end(self, tables: dict[str, Tensor], unreadable: list[Unreadable]) -> DrawnBatch:
        return DrawnBatch(self._views, tables, unreadable)


class Packs:
    """Makes a PackedBatch. Arguments: see `stages.data.render.render`."""

    def __init__(self, *, scaled_decode: bool, interpolation: Interpolation) -> None:
        self._scaled_decode: bool = scaled_decode
        self._interpolation: Interpolation = interpolation
        self._largest = 0

    def begin(self, samples: int) -> None:
        self._buffer = Buffer(self._largest)
        self._packed: list[tuple[Plan, dict[str, Window]]] = []

    def add(self, plan: Plan, open_photo: OpenPhoto) -> None:
        self._packed.append((plan, self._buffer.add(plan, open_photo, self._scaled_decode)))

    def end(self, tables: dict[str, Tensor], unreadable: list[Unreadable]) -> PackedBatch:
        pixels, packed = self._buffer.pixels, self._packed
        del self._buffer, self._packed  # they are the receiver's now
        self._largest = max(self._largest, len(pixels))  # most batches are of about one size
        sizes = {name: view.size for name, view in packed[0][0].items()}
        return PackedBatch(len(packed), sizes, pixels, make_sheets(packed), self._interpolation, tables, unreadable)
