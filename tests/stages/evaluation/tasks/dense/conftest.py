"""Catalogs of made-up photos for the tasks with an answer for each pixel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report

MakePhotos = Callable[..., Catalog]


@pytest.fixture
def make_photos(tmp_path: Path) -> MakePhotos:
    """Writes photos by name, (H, W, 3) uint8 each, and makes their catalog; with `document`, in COCO's format."""

    def make(pictures: Mapping[str, np.ndarray], document: dict | None = None, name: str = "photos") -> Catalog:
        root, out = tmp_path / name, tmp_path / f"catalog_{name}"
        for path, pixels in pictures.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)
        out.mkdir()
        annotations = None
        if document is not None:
            annotations = tmp_path / f"{name}.json"
            annotations.write_text(json.dumps(document))
        indexing.run(
            out=out, report=Report(), format="folder" if document is None else "coco", root=root,
            annotations=annotations, split=None, list_file=None, min_side=8, max_rejected=0.0, workers=1,
        )  # fmt: skip
        return Catalog(out, root)

    return make
