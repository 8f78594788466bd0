"""The roi_features step: one row a box, the same to the bit whatever the workers and interruptions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import functional as F

from stages.correspondence import roi_features as step
from stages.data.catalog import Catalog
from stages.learning.encoder import load_encoder
from stages.report import Report


def run(
    out: Path, catalog: Catalog, encoder: Path, regions: Path, workers: int = 0, batch_size: int = 10
) -> np.ndarray:
    out.mkdir(exist_ok=True)
    step.run(
        out=out, report=Report(), catalog=catalog.directory, root=catalog.root, encoder=encoder, regions=regions,
        size=48, batch_size=batch_size, device="cpu", workers=workers,
    )  # fmt: skip
    return np.load(out / "features.npy", allow_pickle=False)


def test_row_is_the_pooled_feature_of_that_crop(
    features: Path, photo_catalog: Catalog, encoder: Path, regions: Path
) -> None:
    """Against torchvision's resized_crop, which the official code uses, one box at a time."""
    rows = np.load(features / "features.npy")
    boxes = pd.read_parquet(regions / "boxes.parquet")
    assert rows.shape == (len(boxes), 512)
    assert rows.dtype == np.float16
    network = load_encoder(encoder)
    for number in (0, 9, 10, len(boxes) // 2, len(boxes) - 1):
        image, x0, y0, x1, y1 = boxes[["image", "x0", "y0", "x1", "y1"]].iloc[number].tolist()
        crop = F.resized_crop(photo_catalog.decode(image), y0, x0, y1 - y0, x1 - x0, [48, 48])
        with torch.inference_mode():
            expected = network.features(F.pil_to_tensor(crop)[None])[0]
        np.testing.assert_allclose(rows[number], expected / expected.norm(), atol=1e-3)


def test_same_bytes_with_workers(
    tmp_path: Path, features: Path, photo_catalog: Catalog, encoder: Path, regions: Path
) -> None:
    run(tmp_path, photo_catalog, encoder, regions, workers=2)
    assert (tmp_path / "features.npy").read_bytes() == (features / "features.npy").read_bytes()


def test_an_interrupted_run_ends_as_an_undisturbed_one(
    tmp_path: Path,
    features: Path,
    photo_catalog: Catalog,
    encoder: Path,
    regions: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    real, firsts = step._batches, []

    def interrupted(photos: Catalog, images: np.ndarray, corners: np.ndarray, first: int, **settings: int) -> Iterator:
        firsts.append(first)
        for number, batch in enumerate(real(photos, images, corners, first, **settings)):
            if number == 4 and len(firsts) == 1:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(step, "_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, photo_catalog, encoder, regions)
    run(tmp_path, photo_catalog, encoder, regions)
    assert firsts == [0, 40]
    assert (tmp_path / "features.npy").read_bytes() == (features / "features.npy").read_bytes()
    run(tmp_path, photo_catalog, encoder, regions)  # nothing is left to do
    assert (tmp_path / "features.npy").read_bytes() == (features / "features.npy").read_bytes()


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_are_filled_across_photos(photo_catalog: Catalog, regions: Path, batch_size: int) -> None:
    boxes = pd.read_parquet(regions / "boxes.parquet")[:60]
    images, corners = boxes["image"].to_numpy(), boxes[["x0", "y0", "x1", "y1"]].to_numpy()
    for first in (0, 3, 59):
        batches = list(step._batches(photo_catalog, images, corners, first, size=8, batch_size=batch_size, workers=0))
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert 0 < len(batches[-1]) <= batch_size
        crops = torch.cat(batches)
        assert len(crops) == 60 - first
        if first == 0:
            undisturbed = crops
        assert torch.equal(crops, undisturbed[first:])
