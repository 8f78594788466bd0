"""How many pairs are right, against a count by hand, and on labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.correspondence import pairs as step
from stages.correspondence.pair_quality import PairQuality, classes_of
from stages.correspondence.pair_shards import MinedPairs
from stages.data import indexing
from stages.data.boxes import BoxesWriter
from stages.data.catalog import Catalog
from stages.report import Report
from stages.retrieval.tables import NeighborsWriter


def test_a_box_lies_on_the_object_that_it_overlaps_and_on_the_smallest_around_its_centre() -> None:
    objects = np.array([[0, 0, 100, 100], [40, 40, 60, 60], [200, 0, 300, 50]], float)
    boxes = np.array(
        [
            [0, 0, 100, 90],  # IoU 0.9 with the first; its centre (50, 45) is inside of the second, too
            [0, 0, 100, 30],  # IoU 0.3, centre inside of the first only
            [200, 0, 300, 100],  # IoU 0.5 with the third, centre on its lower edge, which is half-open
            [120, 0, 160, 50],
        ]
    )
    assert classes_of(boxes, objects, np.array([7, 8, 9])).tolist() == [[7, 8], [-1, 7], [9, -1], [-1, -1]]
    assert classes_of(boxes, objects[:0], np.array([], int)).tolist() == [[-1, -1]] * 4


def test_shares_are_those_of_a_count_by_hand() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([0, 3, 4, 9])
    classes = rng.integers(-1, 2, (9, 2)).astype(np.int16)
    neighbors = np.array([[1, 2], [2, 0], [0, 1]])
    counts = np.array([[2, 3], [0, 2], [1, 1]])
    rois = np.array([[0, 0], [2, 0], [1, 4], [1, 3], [0, 1], [0, 2], [0, 0], [3, 1], [4, 0]])
    quality = PairQuality(classes, starts)
    part = {"similarity": np.zeros(9), "lonely": np.zeros(3, bool)}
    quality.add(0, MinedPairs(neighbors[:1], counts[:1], rois[:5], **part))
    quality.add(1, MinedPairs(neighbors[1:], counts[1:], rois[5:], **part))
    for by, name in enumerate(("iou", "centre")):
        images, others = np.repeat([0, 0, 1, 1, 2, 2], counts.ravel()), np.repeat(neighbors.ravel(), counts.ravel())
        right, random = 0, 0.0
        for (roi, other_roi), image, other in zip(rois, images, others, strict=True):
            label = classes[starts[image] + roi, by]
            right += label >= 0 and label == classes[starts[other] + other_roi, by]
            mine, theirs = (classes[starts[at] : starts[at + 1], by] for at in (image, other))
            random += np.mean([a >= 0 and a == b for a in mine for b in theirs])
        metrics = quality.metrics()
        assert metrics[f"same_class_{name}"] == pytest.approx(right / 9)
        assert metrics[f"random_same_class_{name}"] == pytest.approx(random / 9)


@pytest.fixture(scope="module")
def labelled(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    out = tmp_path_factory.mktemp("catalog")
    settings: dict[str, Any] = {
        "format": "coco", "root": shared_data / "coco" / "train2017", "list_file": None, "min_side": 32,
        "annotations": shared_data / "coco" / "annotations" / "instances_train2017.json", "split": None,
    }  # fmt: skip
    indexing.run(out=out, report=Report(), max_rejected=0.5, workers=1, **settings)
    return Catalog(out, settings["root"])


def test_pairs_of_features_that_know_the_class_are_right(labelled: Catalog, tmp_path: Path) -> None:
    """Each box is an object and its feature is its class, so matching must find what chance does not."""
    labels = labelled.labels
    labels = labels[~labels["crowd"].astype(bool)]
    rng = np.random.default_rng(0)
    of_class = rng.normal(size=(len(labelled.categories), 32))
    of_class /= np.linalg.norm(of_class, axis=1, keepdims=True)
    features = []
    with BoxesWriter(tmp_path) as writer:
        for image in range(len(labelled)):
            objects = labels[labels["image"] == image]
            corners = objects[["x0", "y0", "x1", "y1"]].to_numpy()
            corners = np.hstack([np.floor(corners[:, :2]), np.ceil(corners[:, 2:])]).astype(int)
            corners = np.vstack([corners, [[0, 0, 1, 1]]])  # on nothing
            writer.append(np.array([len(corners)]), corners, np.zeros(len(corners), np.float32))
            features += [of_class[objects["category"]], rng.normal(size=(1, 32)) / 10]
    np.save(tmp_path / "features.npy", np.concatenate(features).astype(np.float16))
    with NeighborsWriter(tmp_path) as writer:
        numbers = (np.arange(len(labelled))[:, None] + [1, 2, 3]) % len(labelled)
        writer.append(numbers, np.zeros(numbers.shape))
    out, report = tmp_path / "out", Report()
    out.mkdir()
    step.run(
        out=out, report=report, catalog=labelled.directory, root=labelled.root, retrieval=tmp_path, regions=tmp_path,
        roi_features=tmp_path, fraction=0.1, fraction_of="query_boxes", mutual=False, unique=False, min_similarity=0.9,
        gallery_images=2, device="cpu", workers=1,
    )  # fmt: skip
    for name in ("iou", "centre"):
        assert report.metrics[f"same_class_{name}"] > 2 * report.metrics[f"random_same_class_{name}"] > 0
    assert "on objects of one class" in (out / "gallery.html").read_text()
