"""Learned proposals: k-means against scikit-learn, objectness by hand, and boxes around what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from stages.correspondence.proposals import learned


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_kmeans_agrees_with_scikit_learn_where_clusters_are_clear() -> None:
    rng = np.random.default_rng(0)
    points = unit(np.repeat(rng.normal(size=(5, 16)), 40, axis=0) + 0.15 * rng.normal(size=(200, 16)))
    labels = learned.kmeans(points, 5, np.random.default_rng(1))
    peer = KMeans(5, n_init=10, random_state=0).fit_predict(points)
    assert adjusted_rand_score(labels, peer) == 1


def test_kmeans_ends_where_no_point_changes() -> None:
    rng = np.random.default_rng(0)
    points = unit(rng.normal(size=(300, 8)))
    labels = learned.kmeans(points, 4, np.random.default_rng(2))
    centres = unit(np.stack([points[labels == label].mean(axis=0) for label in range(4)]))
    assert ((points @ centres.T).argmax(axis=1) == labels).mean() > 0.9  # after 20 rounds, if not before


@pytest.mark.parametrize("points", [np.zeros((6, 3)), np.tile(unit(np.ones((1, 3))), (6, 1)), np.eye(3)])
def test_kmeans_of_fewer_different_points_than_clusters(points: np.ndarray) -> None:
    labels = learned.kmeans(points, 8, np.random.default_rng(0))
    distinct = len(np.unique(points, axis=0))
    assert len(np.unique(labels)) == distinct
    assert labels.max() < distinct


def test_objectness_by_hand() -> None:
    features = np.tile([1.0, 0.0], (6, 8, 1))
    piece = np.zeros((6, 8), bool)
    piece[2:4, 3:6] = True
    features[piece] = [0.0, 1.0]
    assert learned.objectness(features, piece) == pytest.approx((1 - 0) * 1 * np.sqrt(6))
    at_border = np.zeros((6, 8), bool)
    at_border[:, :2] = True  # 8 of the 24 cells along the border
    features[at_border] = [0.6, 0.8]
    assert learned.objectness(features, at_border) == pytest.approx((1 - 0.6) * (1 - 8 / 24) * np.sqrt(12))
    assert learned.objectness(features, np.ones((6, 8), bool)) == 0


def test_pieces_of_a_cluster_are_boxed_apart() -> None:
    features = np.tile([1.0, 0.0], (6, 9, 1))
    for thing in ((slice(1, 3), slice(1, 4)), (slice(3, 5), slice(6, 8))):
        features[thing] = [0.0, 1.0]
    found = {tuple(box.tolist()): score for box, score in learned._pieces(features, 2, np.random.default_rng(0))}
    assert set(found) == {(1, 1, 4, 3), (6, 3, 8, 5), (0, 0, 9, 6)}
    assert found[1, 1, 4, 3] > found[6, 3, 8, 5] > found[0, 0, 9, 6]


def test_a_thing_that_looks_different_is_found(encoder: Path) -> None:
    """Even by a random network: noise in the middle of a plain photo. Cells are 32 pixels wide."""
    photo = np.full((320, 320, 3), 120, np.uint8)
    photo[96:224, 128:256] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    propose = learned.make(clusters=(2, 4), side=320, encoder=encoder, device="cpu")
    boxes, _ = propose(photo, 0, np.random.default_rng(0))
    assert np.abs(boxes - [128, 96, 256, 224]).max(axis=1).min() <= 32


def test_needs_an_encoder() -> None:
    with pytest.raises(ValueError, match="learned needs a trained encoder"):
        learned.make(clusters=(2,), side=64, encoder=None, device="cpu")
