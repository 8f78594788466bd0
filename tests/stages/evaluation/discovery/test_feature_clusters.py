"""Clusters of feature maps, and the grid that they are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation.discovery.feature_clusters import cluster, grid


@pytest.fixture
def halves() -> np.ndarray:
    """(8, 6, 10): one direction on the left, another on the right, of lengths that vary from cell to cell."""
    rng = np.random.default_rng(0)
    directions = np.zeros((8, 6, 10))
    directions[0, :, :4], directions[1, :, 4:] = 1, 1
    return ((directions + 0.01 * rng.random(directions.shape)) * rng.uniform(0.1, 10, (6, 10))).astype(np.float32)


def test_what_differs_is_told_apart_by_direction(halves: np.ndarray) -> None:
    (labels,) = cluster(halves, [2], distance="cosine", seed=0)
    assert labels.dtype == np.uint16
    left = labels[0, 0]
    np.testing.assert_array_equal(labels == left, np.tile(np.arange(10) < 4, (6, 1)))
    (by_length,) = cluster(halves, [2], distance="euclidean", seed=0)
    assert not np.array_equal(by_length == by_length[0, 0], labels == left)


def test_the_same_features_give_the_same_maps() -> None:
    features = np.random.default_rng(1).normal(size=(16, 9, 7)).astype(np.float32)
    maps = cluster(features, [3, 5], distance="cosine", seed=4)
    assert [len(np.unique(labels)) for labels in maps] == [3, 5]
    for labels, again in zip(maps, cluster(features, [3, 5], distance="cosine", seed=4), strict=True):
        np.testing.assert_array_equal(labels, again)


@pytest.mark.filterwarnings("error")
def test_a_collapsed_network_has_one_cluster() -> None:
    (labels,) = cluster(np.ones((4, 5, 5), np.float32), [3], distance="cosine", seed=0)
    assert len(np.unique(labels)) == 1


def test_more_clusters_than_cells_are_refused(halves: np.ndarray) -> None:
    with pytest.raises(ValueError, match="61 clusters of a feature map with 6 x 10 cells"):
        cluster(halves, [2, 61], distance="cosine", seed=0)


@pytest.mark.parametrize(
    ("size", "shapes"), [((640, 480), [(2, 2), (2, 4), (1, 7)]), ((480, 640), [(2, 2), (4, 2), (7, 1)])]
)
def test_the_grid_has_as_many_rectangles(size: tuple[int, int], shapes: list[tuple[int, int]]) -> None:
    maps = grid(size, [4, 8, 7])
    assert [labels.shape for labels in maps.maps] == shapes
    assert [len(np.unique(labels)) for labels in maps.layers()] == [4, 8, 7]
