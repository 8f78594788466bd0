"""The objects of a catalog, `labels.parquet`: written in the order of the photos, read by need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [("image", pa.int32()), ("category", pa.int32())]
    + [(side, pa.float64()) for side in ("x0", "y0", "x1", "y1")]
    + [("difficult", pa.bool_()), ("crowd", pa.bool_()), ("segmentation", pa.large_string())]
)
# Objects that are read together: those of about a thousand photos, a few megabytes with COCO's outlines.
ROW_GROUP = 8192


class LabelTable:
    """Objects of some photos without reading those of all others."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def whole(self) -> pd.DataFrame:
        return pd.read_parquet(self._path)

    def of(self, first: int, last: int, columns: Sequence[str] | None) -> pd.DataFrame:
        """Objects of photos first .. last - 1, from the row groups whose statistics say that they hold any."""
        lowest, highest = self._ranges
        groups = np.flatnonzero((lowest < last) & (highest >= first)).tolist()
        wanted = None if columns is None else ["image", *(name for name in columns if name != "image")]
        table = self._file.read_row_groups(groups, wanted, use_threads=False)
        image = table["image"]
        table = table.filter(pc.and_(pc.greater_equal(image, first), pc.less(image, last)))
        return (table if columns is None else table.select(list(columns))).to_pandas()

    @cached_property
    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._path)

    @cached_property
    def _ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest photo of each row group, two (groups,) int64."""
        metadata = self._file.metadata
        column = metadata.schema.names.index("image")
        statistics = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
        known = [(each.min, each.max) if each.has_min_max else (0, -1) for each in statistics]  # the latter holds none
        lowest, highest = np.array(known, np.int64).reshape(-1, 2).T
        return lowest, highest
