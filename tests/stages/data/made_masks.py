"""Artifacts of the masks step, made by the real step or written from small arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.correspondence import masks as step
from stages.data.catalog import Catalog
from stages.data.masks import records
from stages.data.masks.segmentation import Segmentation
from stages.data.masks.storage import Masks, MasksWriter
from stages.report import Report
from stages.shards import LocalEngine


def make_masks(out: Path, catalog: Catalog, method: str, **options: Any) -> Masks:
    out.mkdir(parents=True, exist_ok=True)
    step.run(
        out=out, report=Report(), catalog=catalog.directory, root=catalog.root, method=method, options=options,
        device="cpu", workers=1, engine=LocalEngine(1),
    )  # fmt: skip
    return Masks(out)


def make_felzenszwalb(out: Path, catalog: Catalog, scales: Sequence[int] = (100, 300)) -> Masks:
    return make_masks(
        out, catalog, "felzenszwalb", scales=tuple(scales), sigma=0.8, min_size=None, max_pixels=4_000_000
    )


def write_masks(out: Path, segmentations: Sequence[Segmentation], layers: Sequence[str]) -> Masks:
    """One segmentation a photo; no layers for stacks."""
    out.mkdir(parents=True, exist_ok=True)
    with MasksWriter(out, "labels" if layers else "stack", layers) as writer:
        for segmentation in segmentations:
            record = np.frombuffer(records.encode(segmentation), np.uint8)
            writer.append(record, np.array([len(record)]))
    return Masks(out)
