"""The files of step `masks`: `masks.bin`, a record a photo, end to end; `index.npy`, where each begins; `masks.json`.

A photo costs 8 bytes of the mapped index beside its record, and any photo is read by one seek.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import numpy as np

from stages.data.mapped import Mapped
from stages.data.masks import records
from stages.data.masks.segmentation import LabelRuns, MaskStack
from stages.data.npy_file import NpyWriter

RECORDS_FILE = "masks.bin"
INDEX_FILE = "index.npy"
FACTS_FILE = "masks.json"

Kind = Literal["labels", "stack"]
Result = TypeVar("Result")


class Masks:
    """The `masks` artifact in `directory`. Pickles as its path; each process opens the files for itself.

    There are two kinds: `labels`, one label map a layer, whose regions divide the photo; and `stack`, masks that may
    overlap. Opening reads nothing, and any photo is found at once.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._index = Mapped(self.directory / INDEX_FILE)

    def __getstate__(self) -> Path:
        return self.directory

    def __setstate__(self, directory: Path) -> None:
        self.__init__(directory)  # type: ignore[misc]

    def __len__(self) -> int:
        """The number of photos."""
        return len(self._index) - 1

    @property
    def kind(self) -> Kind:
        return self._facts["kind"]

    @property
    def layers(self) -> list[str]:
        """Names of the label maps of a photo; none for a stack."""
        return self._facts["layers"]

    def size(self, image: int) -> tuple[int, int]:
        """Width and height of the photo."""
        return self._decoded(image, records.decode_size)

    def labels(self, image: int, layer: int) -> np.ndarray:
        """Map number `layer` of a photo: (H, W) uint16 at its full size. Labels need not be consecutive.

        Raises:
            ValueError: these are no label maps, or the file is damaged.
            IndexError: there is no such photo or layer.
        """
        return self.label_runs(image, layer).map()

    def label_runs(self, image: int, layer: int) -> LabelRuns:
        """The same as it is stored: for who looks at a part of the photo, or at single pixels."""
        self._check_kind("labels", "stack")
        if not 0 <= layer < len(self.layers):
            raise IndexError(f"{self.directory} has no layer {layer}, only 0 to {len(self.layers) - 1}: {self.layers}")
        return self._decoded(image, lambda record: records.decode_map(record, len(self.layers), layer))

    def stack(self, image: int) -> np.ndarray:
        """The masks of a photo, best first: (n, H, W) bool, n >= 1. Raises as `labels` does."""
        stored = self.mask_runs(image)
        stack = np.empty((len(stored.runs), *stored.size[::-1]), bool)
        for mask, stored_mask in zip(stack, stored.masks(), strict=True):
            mask[:] = stored_mask
        return stack

    def mask_runs(self, image: int) -> MaskStack:
        """The same as it is stored, with the scores."""
        self._check_kind("stack", "labels")
        return self._decoded(image, records.decode_stack)

    def scores(self, image: int) -> np.ndarray:
        """Those of `stack`: (n,) float32; NaN for the whole photo, which stands in where there was no mask."""
        self._check_kind("stack", "labels")
        return self._decoded(image, records.decode_scores)

    def check(self, images: int) -> None:
        """Raises ValueError unless these are the masks of `images` photos."""
        if len(self) != images:
            raise ValueError(
                f"{self.directory} holds the masks of {len(self)} photos where the catalog has {images}: they are not "
                "of one run. Run the steps catalog and masks again, in this order."
            )

    def _check_kind(self, wanted: Kind, other: Kind) -> None:
        if self.kind != wanted:
            raise ValueError(f"{self.directory} is of the kind {self.kind!r}: read it by `{other}`, not `{wanted}`.")

    def _decoded(self, image: int, decode: Callable[[bytes], Result]) -> Result:
        if not 0 <= image < len(self):
            raise IndexError(f"{self.directory} has no photo {image}, only 0 to {len(self) - 1}")
        start, end = self._index.array[image : image + 2].tolist()
        if not 0 <= start < end:
            raise self._damaged(f"{INDEX_FILE} says that photo {image} lies at {start} to {end}")
        try:
            return decode(os.pread(self._file.fileno(), end - start, start))
        except (ValueError, zlib.error, struct.error) as error:
            raise self._damaged(f"the record of photo {image}: {error}") from error

    def _damaged(self, what: str) -> ValueError:
        path = self.directory / RECORDS_FILE
        return ValueError(f"{path} is damaged ({what}). Make the step masks again with --force.")

    @cached_property
    def _facts(self) -> dict:
        return json.loads((self.directory / FACTS_FILE).read_text())

    @cached_property
    def _file(self) -> io.FileIO:
        # Read, not mapped: the pages of a mapped file of many gigabytes would count as this process's memory.
        file = (self.directory / RECORDS_FILE).open("rb", buffering=0)
        size, promised = os.fstat(file.fileno()).st_size, int(self._index.array[-1])
        if size != promised:
            file.close()
            raise self._damaged(f"it has {size:,} bytes, and {INDEX_FILE} promises {promised:,}")
        return file


class MasksWriter:
    """Writes these files, photo after photo; memory does not grow with their number."""

    def __init__(self, directory: Path, kind: Kind, layers: Sequence[str]) -> None:
        (directory / FACTS_FILE).write_text(json.dumps({"kind": kind, "layers": list(layers)}))
        self.bytes = 0
        self._file = (directory / RECORDS_FILE).open("wb")
        self._index = NpyWriter(directory / INDEX_FILE, np.int64)
        self._index.append(np.zeros(1))

    def append(self, encoded: np.ndarray, lengths: np.ndarray) -> None:
        """The records of the next photos, end to end: (bytes,) uint8; and the (k,) bytes of each."""
        self._file.write(encoded.data)
        self._index.append(self.bytes + np.cumsum(lengths))
        self.bytes += len(encoded)

    def __enter__(self) -> MasksWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._index.__exit__(kind, error, trace)
