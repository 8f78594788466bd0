"""Writing the photos of a catalog in bounded memory, whatever their number: see `stages.data.catalog` for the files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.data.npy_file import NpyWriter
from stages.data.texts import Texts

# What is known of a usable photo; `class` is the name of its class, if it has one.
PHOTO = pa.schema(
    [
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.binary(32)),
        ("offset", pa.int64()),  # first byte in its archive, -1 for a file of its own
        ("class", pa.string()),
    ]
)
_ROW_GROUP = 65_536


class CatalogWriter:
    """Appends photos to the files of a catalog in `directory`; use it in a `with` statement.

    Args:
        joined: the photos are of several parts.
        archived: some photos lie in archives.
        classed: photos may have classes.

    Attributes:
        count: photos so far.
        classed: as given.
        class_names: of the photos so far, in order of appearance; see `name_classes`.
    """

    def __init__(self, directory: Path, *, joined: bool = False, archived: bool = False, classed: bool = False) -> None:
        self.count = 0
        self.classed = classed
        self._directory = directory
        self._class_numbers: dict[str, int] = {}
        self._text_end = 0
        self._files = ExitStack()
        self._paths = self._array("paths.npy", np.uint8)
        self._path_starts = self._array("path_starts.npy", np.int64)
        self._path_starts.append(np.zeros(1, np.int64))
        self._sizes = self._array("sizes.npy", np.int32, 2)
        self._sha256 = self._array("sha256.npy", np.uint8, 32)
        self._parts = self._array("parts.npy", np.uint16) if joined else None
        self._members = self._array("members.npy", np.int64, 2) if archived else None
        self._classes = self._array("classes.npy", np.int32) if classed else None
        self._table = pq.ParquetWriter(directory / "images.parquet", self._columns())
        self._waiting: list[pa.RecordBatch] = []

    def _array(self, name: str, dtype: type[np.generic], width: int | None = None) -> NpyWriter:
        return self._files.enter_context(NpyWriter(self._directory / name, dtype, () if width is None else (width,)))

    def _columns(self) -> pa.Schema:
        columns = [("image", pa.int32()), ("path", pa.string()), ("width", pa.int32()), ("height", pa.int32())]
        columns += [("bytes", pa.int64()), ("sha256", pa.string())]
        for file, name, kind in ((self._parts, "part", pa.int32()), (self._members, "offset", pa.int64()),
                                 (self._classes, "class", pa.string())):  # fmt: skip
            if file is not None:
                columns.append((name, kind))
        return pa.schema(columns)

    def add(self, photos: pa.RecordBatch, part: int = 0) -> None:
        """Appends photos, a batch of `PHOTO`."""
        numbers = {name: photos[name].to_numpy() for name in ("width", "height", "bytes", "offset")}
        names = Texts.from_arrow(photos["path"])
        self._paths.append(names.text[names.starts[0] : names.starts[-1]])
        self._path_starts.append(names.starts[1:] - names.starts[0] + self._text_end)
        self._text_end += int(names.starts[-1] - names.starts[0])
        self._sizes.append(np.stack([numbers["width"], numbers["height"]], axis=1))
        sha256 = [each.as_py() for each in photos["sha256"]]
        self._sha256.append(np.frombuffer(b"".join(sha256), np.uint8).reshape(-1, 32))
        if self._parts is not None:
            self._parts.append(np.full(len(photos), part))
        if self._members is not None:
            size = np.where(numbers["offset"] < 0, -1, numbers["bytes"])
            self._members.append(np.stack([numbers["offset"], size], axis=1))
        if self._classes is not None:
            self._classes.append(self._numbers_of(photos["class"]))
        shown = {"image": np.arange(self.count, self.count + len(photos), dtype=np.int32), "part": [part] * len(photos)}
        shown["sha256"] = [each.hex() for each in sha256]
        columns = [shown[name] if name in shown else photos[name] for name in self._table.schema.names]
        self._waiting.append(pa.RecordBatch.from_arrays(
            [pa.array(column, kind) for column, kind in zip(columns, self._table.schema.types, strict=True)],
            schema=self._table.schema,
        ))  # fmt: skip
        self.count += len(photos)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._flush()

    def _numbers_of(self, names: pa.Array) -> np.ndarray:
        for name in pc.unique(names.drop_null()).to_pylist():
            self._class_numbers.setdefault(name, len(self._class_numbers))
        return np.array([-1 if name is None else self._class_numbers[name] for name in names.to_pylist()], np.int32)

    def _flush(self) -> None:
        if self._waiting:
            self._table.write_table(pa.Table.from_batches(self._waiting))
            self._waiting = []

    def __enter__(self) -> CatalogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.push(lambda *_: self._table.close())
        try:
            if kind is None:
                self._flush()
        finally:
            self._files.__exit__(kind, error, trace)

    @property
    def class_names(self) -> list[str]:
        return list(self._class_numbers)


def name_classes(directory: Path, names: list[str], categories: list[str]) -> None:
    """Makes `classes.npy`, in which names[n] is n, refer to `categories`; removes it when no photo has a class."""
    path = directory / "classes.npy"
    if not names:
        path.unlink()
        return
    number_of = {name: number for number, name in enumerate(categories)}
    final = np.array([*(number_of[name] for name in names), -1], np.int32)  # the last one is what -1 picks
    classes = np.load(path, mmap_mode="r+", allow_pickle=False)
    for first in range(0, len(classes), _ROW_GROUP):
        block = classes[first : first + _ROW_GROUP]
        block[:] = final[block]
    classes.flush()


def in_natural_order(names: list[str]) -> list[str]:
    """Whole numbers by their value, everything else by its letters."""
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)
