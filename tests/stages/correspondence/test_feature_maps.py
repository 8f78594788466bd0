"""Features of boxes from one map a photo, and how far they agree with those of crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.correspondence import roi_features as step
from stages.correspondence.crops import cut
from stages.correspondence.feature_maps import agreement, map_features, seen_size
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.learning.encoder import load_encoder
from stages.learning.frozen import Frozen
from stages.report import Report
from stages.shards import LocalEngine


@pytest.fixture(scope="module")
def network(encoder: Path) -> Frozen:
    return Frozen(load_encoder(encoder), torch.device("cpu"), precision="fp32")


@pytest.mark.parametrize(
    ("width", "height", "seen"),
    [
        (640, 480, (640, 480)),
        (500, 375, (640, 480)),
        (427, 640, (416, 640)),
        (20_000, 500, (640, 32)),
        (1, 1, (640,) * 2),
    ],
)
def test_photos_are_seen_at_multiples_of_a_cell(width: int, height: int, seen: tuple[int, int]) -> None:
    assert seen_size(width, height, 640) == seen


def test_a_row_is_the_mean_of_the_map_over_its_box(network: Frozen, photo_catalog: Catalog, regions: Path) -> None:
    """Against the mean of bilinear samples, one a cell, written down box by box."""
    boxes, images = Boxes(regions), [6, 0, 3]
    rows = torch.cat(list(map_features(network, Photos(photo_catalog), boxes, images, side=256, threads=2)))
    expected = []
    for image in images:
        photo = photo_catalog.pixels(image)
        height, width = photo.shape[:2]
        feature_map = network.feature_map(cut(photo, np.array([[0, 0, width, height]]), *seen_size(width, height, 256)))
        values = feature_map[0].numpy().transpose(1, 2, 0)  # (h, w, C)
        for x0, y0, x1, y1 in boxes.of(image).tolist():
            columns = samples(x0 / width, x1 / width, values.shape[1])
            lines = samples(y0 / height, y1 / height, values.shape[0])
            expected.append(np.einsum("yh,xw,hwc->c", lines, columns, values) / (len(lines) * len(columns)))
    np.testing.assert_allclose(rows, np.stack(expected), rtol=1e-3, atol=1e-4)


def samples(low: float, high: float, cells: int) -> np.ndarray:
    """(s, cells) weights of cells at points evenly spread from `low` to `high`, shares of the side, at most 1 apart."""
    count = int(np.ceil((high - low) * cells - 1e-5))
    places = (low + (high - low) * (np.arange(count) + 0.5) / count) * cells - 0.5
    return np.maximum(0, 1 - np.abs(np.clip(places, 0, cells - 1)[:, None] - np.arange(cells)))


def test_agreement_of_equal_and_of_unrelated_features() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(20), 5)
    features, others = (rng.normal(size=(100, 64)) for _ in range(2))
    features, others = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (features, others))
    assert agreement(features.astype(np.float16), features.astype(np.float16), images) == (
        pytest.approx(1, abs=1e-3),
        1,
    )
    cosine, same = agreement(features, others, images)
    assert abs(cosine) < 0.1
    assert same < 0.1


def test_a_box_of_the_same_photo_is_no_match() -> None:
    features = np.array([[1, 0], [1, 0], [0.6, 0.8], [0.8, 0.6]])
    moved = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]])
    # The most similar rows are 3, 3, 0, 0, then 2, 3, 0, 1.
    assert agreement(features, moved, np.array([0, 0, 1, 1]))[1] == 0.5


def test_the_step_reports_the_agreement(
    tmp_path: Path, features: Path, photo_catalog: Catalog, encoder: Path, regions: Path, network: Frozen
) -> None:
    report = Report()
    step.run(
        out=tmp_path, report=report, catalog=photo_catalog.directory, root=photo_catalog.root, encoder=encoder,
        regions=regions, size=48, mode="feature_map", map_side=256, precision="fp32", batch_size=10, compile=None,
        device="cpu", workers=1, engine=LocalEngine(1),
    )  # fmt: skip
    maps, crops = np.load(tmp_path / "features.npy"), np.load(features / "features.npy")
    assert maps.shape == crops.shape
    rows = torch.cat(list(map_features(network, Photos(photo_catalog), Boxes(regions), range(8), side=256, threads=1)))
    np.testing.assert_allclose(maps, torch.nn.functional.normalize(rows), atol=1e-3)
    images = np.repeat(np.arange(8), np.diff(Boxes(regions).starts))
    expected = agreement(crops, maps, images)
    measured = report.metrics["agreement_cosine"], report.metrics["agreement_same_nearest"]
    assert measured == pytest.approx(expected, abs=0.02)
