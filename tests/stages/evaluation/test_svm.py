from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from stages.evaluation import svm


def plain(cost: float) -> LinearSVC:
    """The call of OpenSelfSup's benchmarks/svm_tools/train_svm_kfold_parallel.py, with a seed."""
    return LinearSVC(
        C=cost, class_weight={1: 2, -1: 1}, intercept_scaling=1.0, penalty="l2", loss="squared_hinge",
        tol=0.0001, dual=True, max_iter=2000, random_state=7,
    )  # fmt: skip


@pytest.mark.parametrize(("photos", "dims"), [(60, 200), (150, 20)])
@pytest.mark.parametrize("cost", [0.5**12, 0.1, 10.0])
def test_turned_rows_change_nothing(tmp_path, photos, dims, cost):
    rng = np.random.default_rng(0)
    positive = rng.random(photos) < 0.3
    train = (rng.normal(size=(photos, dims)) + 0.5 * positive[:, None]).astype(np.float32)
    test = rng.normal(size=(33, dims)).astype(np.float32)
    rows = svm.turn_rows(train, test, tmp_path / "turned")
    kept = np.arange(photos) % 3 > 0
    ours = svm.fit(rows.train[kept], positive[kept], cost, seed=7)
    scaled = svm.scaled_rows(train)
    theirs = plain(cost).fit(scaled[kept], np.where(positive[kept], 1, -1))
    assert ours.iterations == theirs.n_iter_
    expected = theirs.decision_function(np.concatenate([scaled, svm.scaled_rows(test)]))
    got = np.concatenate([rows.train, rows.test]) @ ours.weights + ours.intercept
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    assert rows.train.shape == (photos, min(photos, dims))
    assert np.count_nonzero(rows.train[: min(photos, dims)]) <= min(photos, dims) * (min(photos, dims) + 1) / 2


def test_rows_that_repeat_or_vanish_can_be_turned(tmp_path):
    train = np.zeros((6, 4))
    train[:3, 0] = train[3:5, 1] = 2.0  # rank 2, and a photo without any feature
    rows = svm.turn_rows(train, train, tmp_path)
    np.testing.assert_allclose(rows.train @ rows.train.T, svm.scaled_rows(train) @ svm.scaled_rows(train).T, atol=1e-12)


def test_rows_are_scaled_as_in_the_reference():
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    scaled = svm.scaled_rows(features)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaled[1], features[1].astype(float) / (np.linalg.norm(features[1]) + 1e-5), rtol=1e-6)


def test_turned_rows_travel_as_their_folder(tmp_path):
    rows = svm.turn_rows(np.eye(500), np.eye(500), tmp_path)
    packed = pickle.dumps(rows)
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).train, rows.train)  # noqa: S301 (made here)


def test_costs():
    assert len(svm.cost_list("openselfsup")) == 19
    assert svm.cost_list("openselfsup")[:4] == (1, 10, 100, 0.0625)
    assert len(svm.cost_list("vissl")) == 11
    assert svm.cost_list([0.5, 2]) == (0.5, 2.0)
    with pytest.raises(ValueError, match="openselfsup, vissl, or a list"):
        svm.cost_list("liblinear")
    for wrong in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="above 0"):
            svm.cost_list(wrong)


def test_no_more_processes_than_are_worth_it():
    with svm.fitting_pool(1000, 8)[0] as few:
        assert type(few).__name__ == "_InProcess"
    assert svm.fitting_pool(10**9, 3)[1] == 6
