"""Grid, random and ground-truth boxes: each by its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.correspondence.proposals import grid, ground_truth, random_boxes
from stages.data.catalog import Catalog

RNG = np.random.default_rng(0)


def photo(width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_grid_covers_the_photo_without_overlap() -> None:
    boxes, scores = grid.make(cells=(3, 1))(photo(100, 50), 0, RNG)
    assert boxes[0].tolist() == [0, 0, 100, 50]  # the coarsest first, whatever the order of the setting
    assert boxes[1:4].tolist() == [[0, 0, 33, 16], [33, 0, 66, 16], [66, 0, 100, 16]]
    np.testing.assert_allclose(scores, [1] + [1 / 9] * 9)
    covered = np.zeros((50, 100), int)
    for x0, y0, x1, y1 in boxes[1:]:
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()


def test_grid_finer_than_the_photo() -> None:
    boxes, _ = grid.make(cells=(4,))(photo(2, 1), 0, RNG)
    assert sorted(boxes.tolist()) == [[0, 0, 1, 1], [1, 0, 2, 1]]


def test_random_boxes_have_the_areas_and_shapes_asked_for() -> None:
    boxes, scores = random_boxes.make(count=5000, scale=(0.1, 0.3), ratio=(0.5, 2.0))(
        photo(1000, 1000), 0, np.random.default_rng(0)
    )
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    share, ratio = width * height / 1e6, width / height
    assert 0.0995 < share.min() < 0.102
    assert 0.298 < share.max() < 0.3005
    assert 0.499 < ratio.min() < 0.51
    assert 1.96 < ratio.max() < 2.01
    assert abs(np.log(ratio).mean()) < 0.02
    assert abs(np.corrcoef(np.arange(len(share)), share)[0, 1]) < 0.05  # no order but that of the random scores
    assert 0 <= scores.min() < scores.max() < 1
    assert len({tuple(corner) for corner in boxes[:, :2].tolist()}) > 4900


def test_random_boxes_that_do_not_fit_are_cut() -> None:
    boxes, _ = random_boxes.make(count=50, scale=(0.5, 1.0), ratio=(0.5, 2.0))(photo(2000, 10), 0, RNG)
    assert (boxes[:, 3] <= 10).all()
    assert (boxes[:, 2] - boxes[:, 0]).max() <= 200


class _Labelled(Catalog):
    """A catalog whose labels are given here."""

    def __init__(self, directory: Path, boxes: list[tuple[float, ...]]) -> None:
        np.save(directory / "sizes.npy", np.array([[100, 60]], np.int32))
        columns = ["x0", "y0", "x1", "y1", "crowd", "difficult"]
        table = pd.DataFrame(boxes, columns=columns).assign(image=np.int32(0), category=0, segmentation=None)
        table.astype({"crowd": bool, "difficult": bool}).to_parquet(directory / "labels.parquet")
        super().__init__(directory, directory)


@pytest.fixture
def labelled(tmp_path: Path) -> Catalog:
    objects = [
        (10, 10, 20, 20, False, False), (5.5, 7.25, 60.5, 50, False, False), (0, 0, 90, 60, True, False),
        (0, 0, 80, 60, False, True), (10, 10, 20, 20, False, False),
    ]  # fmt: skip
    return _Labelled(tmp_path, objects)


def test_ground_truth_is_the_clear_objects_the_largest_first(labelled: Catalog) -> None:
    boxes, scores = ground_truth.make(catalog=labelled)(photo(100, 60), 0, RNG)
    assert boxes.tolist() == [[5, 7, 61, 50], [10, 10, 20, 20]]
    np.testing.assert_allclose(scores, [56 * 43 / 6000, 100 / 6000])


def test_ground_truth_follows_the_smaller_copy(labelled: Catalog) -> None:
    boxes, _ = ground_truth.make(catalog=labelled)(photo(50, 30), 0, RNG)
    assert boxes.tolist() == [[2, 3, 31, 25], [5, 5, 10, 10]]


def test_ground_truth_needs_labels(photo_catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=r"needs labels.*COCO or VOC.*selective_search"):
        ground_truth.make(catalog=photo_catalog)
