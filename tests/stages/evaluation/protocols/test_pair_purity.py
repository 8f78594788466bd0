"""The step `pair_purity`: pairs on one class, the same that stage 3 would mine."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.correspondence import pairs as pairs_step
from stages.correspondence.pair_quality import classes_of, write_classes
from stages.correspondence.pair_shards import MinedPairs
from stages.data.boxes import Boxes, BoxesWriter
from stages.data.catalog import Catalog
from stages.evaluation.protocols import pair_purity
from stages.report import Report
from tests.stages.evaluation.protocols.labelled_scenes import (
    ENCODER,
    SCENES,
    outcome_of,
    scene_catalog,
    scene_features,
)


@pytest.fixture(scope="module")
def scenes(photos_dir: Path) -> Catalog:
    return scene_catalog(photos_dir)


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory, scenes: Catalog) -> Boxes:
    """The boxes of all objects, and of the whole photo."""
    out, labels = tmp_path_factory.mktemp("regions"), scenes.labels
    with BoxesWriter(out) as writer:
        for image in range(SCENES):
            corners = labels.loc[labels["image"] == image, ["x0", "y0", "x1", "y1"]].to_numpy(int)
            corners = np.concatenate([corners, [[0, 0, 128, 128]]])
            writer.append(np.array([len(corners)]), corners, np.ones(len(corners), np.float32))
    return Boxes(out)


def measure(out: Path, catalog: Catalog, regions: Boxes, features: Path, neighbors: int = 3) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    report = Report()
    pair_purity.run(
        out=out, report=report, test=catalog.directory, test_root=catalog.root, regions=regions.directory, fraction=0.5,
        fraction_of="query_boxes", size=32, batch_size=16, seed=0, device="cpu", workers=1, encoder=ENCODER,
        features_test=features, neighbors=neighbors,
    )  # fmt: skip
    return outcome_of(out) | {"metrics": report.metrics}


def classes(catalog: Catalog, regions: Boxes, image: int) -> np.ndarray:
    objects = catalog.labels_of(image, image + 1)
    corners, categories = objects[["x0", "y0", "x1", "y1"]].to_numpy(float), objects["category"].to_numpy()
    return classes_of(regions.of(image), corners, categories)


def test_pairs_are_counted_one_by_one(scenes: Catalog, regions: Boxes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    neighbors = np.array([[(image + 1) % SCENES, (image + 3) % SCENES] for image in range(SCENES)])
    counts = rng.integers(1, 4, neighbors.shape)
    groups = [(image, other) for (image, rank), other in zip(np.ndindex(neighbors.shape), neighbors.flat, strict=True)]
    rois = [
        (rng.integers(len(regions.of(image))), rng.integers(len(regions.of(other))))
        for (image, other), count in zip(groups, counts.flat, strict=True)
        for _ in range(count)
    ]
    mined = MinedPairs(neighbors, counts, np.array(rois), np.ones(len(rois)), np.empty(0))
    places = [group for group, count in zip(groups, counts.flat, strict=True) for _ in range(count)]
    right = random = 0.0
    for (image, other), (roi, other_roi) in zip(places, rois, strict=True):
        here, there = (classes(scenes, regions, photo)[:, 0] for photo in (image, other))
        right += here[roi] == there[other_roi] >= 0
        random += np.mean([one == another >= 0 for one, another in product(here, there)])
    table = write_classes(scenes, regions, tmp_path / "classes.npy")
    found, count = pair_purity.same_class(pair_purity.by_photo(mined), table, regions.starts, seed=0)
    assert found["same_class_iou"].value == pytest.approx(right / len(rois), abs=1e-6)
    assert found["same_class_iou"].chance == pytest.approx(random / len(rois), abs=1e-6)
    assert count == len(rois)


def test_an_encoder_mines_as_stage_3_does(scenes: Catalog, regions: Boxes, tmp_path: Path) -> None:
    features = scene_features(tmp_path / "features", scenes)
    out = tmp_path / "out"
    found = measure(out, scenes, regions, features)
    stage_3 = tmp_path / "stage_3"
    stage_3.mkdir()
    report = Report()
    pairs_step.run(
        out=stage_3, report=report, catalog=scenes.directory, root=scenes.root, retrieval=out / "scratch",
        regions=regions.directory, roi_features=out / "scratch", fraction=0.5, fraction_of="query_boxes", mutual=False,
        unique=False, min_similarity=None, gallery_images=1, device="cpu", workers=1,
    )  # fmt: skip
    for key, value in found["value"].items():
        assert value == pytest.approx(report.metrics[key])
        assert found["values"][key]["chance"] == pytest.approx(report.metrics[f"random_{key}"])
    assert measure(out, scenes, regions, features)["values"] == found["values"]


def test_what_does_not_belong_together_is_refused(
    scenes: Catalog, photo_catalog: Catalog, regions: Boxes, tmp_path: Path
) -> None:
    features = scene_features(tmp_path / "features", scenes)
    with pytest.raises(ValueError, match="neighbors=8 is not possible with 8 photos"):
        measure(tmp_path / "many", scenes, regions, features, neighbors=8)
    with pytest.raises(ValueError, match="has no labels"):
        measure(tmp_path / "out", photo_catalog, regions, features)
