"""Writing the objects of a catalog: those of usable photos, by the photos' numbers, clipped to the photos."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.formats import Labels
from stages.data.label_table import ROW_GROUP, SCHEMA

log = logging.getLogger(__name__)


class LabelWriter:
    """Appends the labels of one part of a data set after the other; use it in a `with` statement.

    Attributes:
        metrics: figures for the manifest.
    """

    def __init__(self, path: Path, categories: list[str]) -> None:
        """categories: grows by the names that it does not have yet, so that parts share categories by their names."""
        self._categories = categories
        self._objects = self._labelled = self._degenerate = self._mismatched = 0
        self._file = pq.ParquetWriter(path, SCHEMA)

    def add(self, labels: Labels, usable: np.ndarray, first: int, sizes: np.ndarray) -> None:
        """Drops the objects of rejected photos, renumbers the others, clips their boxes to the photos.

        Args:
            usable: (number of listed paths,) bool.
            first: number of the first usable photo of this part.
            sizes: (number of usable photos, 2), width and height of the decoded photos.
        """
        self._compare_sizes(labels, usable, sizes)
        objects = labels.objects[usable[labels.objects["image"]]].copy()
        image = (np.cumsum(usable) - 1)[objects["image"]]
        width, height = sizes[image].T
        for x, y in (("x0", "y0"), ("x1", "y1")):
            scale_x, scale_y = (width, height) if labels.relative else (1, 1)
            objects[x] = np.clip(objects[x] * scale_x, 0, width)
            objects[y] = np.clip(objects[y] * scale_y, 0, height)
        objects["image"] = (image + first).astype(np.int32)
        objects["category"] = self._renamed(labels.categories)[objects["category"]]
        # Also false for NaN.
        extended = (objects["x1"] > objects["x0"]) & (objects["y1"] > objects["y0"])
        kept = objects[extended].sort_values("image", kind="stable")
        self._file.write_table(_table(kept), row_group_size=ROW_GROUP)
        self._objects += len(kept)
        self._labelled += int(kept["image"].nunique())
        self._degenerate += len(objects) - len(kept)

    def _compare_sizes(self, labels: Labels, usable: np.ndarray, sizes: np.ndarray) -> None:
        if labels.sizes is None:
            return
        claimed = labels.sizes[usable]
        mismatched = int(((claimed != sizes) & (claimed > 0)).any(axis=1).sum())
        if mismatched:
            log.warning(
                "%d photos have another size than their annotations say, so their boxes may be off. Most often the "
                "photos were resized, or annotated without regard to the EXIF orientation.",
                mismatched,
            )
        self._mismatched += mismatched

    def _renamed(self, names: list[str]) -> np.ndarray:
        """(len(names),) int32: their numbers among all categories."""
        number_of = {name: number for number, name in enumerate(self._categories)}
        for name in names:
            if name not in number_of:
                number_of[name] = len(self._categories)
                self._categories.append(name)
        return np.array([number_of[name] for name in names], np.int32)

    @property
    def metrics(self) -> dict[str, Any]:
        return {
            "objects": self._objects,
            "labelled_images": self._labelled,
            "categories": len(self._categories),
            "degenerate_boxes": self._degenerate,
            "size_mismatches": self._mismatched,
        }

    def __enter__(self) -> LabelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _table(objects: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(objects, schema=SCHEMA, preserve_index=False)
