from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation import view_retrieval


def test_partners_are_found_when_they_agree():
    photos = np.random.default_rng(0).normal(size=(20, 8))
    assert view_retrieval.partner_found(np.repeat(photos, 2, axis=0)).all()


def test_agrees_with_two_loops():
    rows = np.random.default_rng(1).normal(size=(24, 3))
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = []
    for i in range(24):
        others = [j for j in range(24) if j != i]
        nearest = max(others, key=lambda j: units[i] @ units[j])
        expected.append(nearest // 2 == i // 2)
    assert view_retrieval.partner_found(rows).tolist() == expected


def test_the_rank_is_the_area_under_the_roc_curve():
    from sklearn.metrics import roc_auc_score

    photos = np.random.default_rng(3).normal(size=(30, 5))
    rows = photos.repeat(2, axis=0) + np.random.default_rng(4).normal(size=(60, 5))
    units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = []
    for i in range(60):
        others = [j for j in range(60) if j != i]
        expected.append(roc_auc_score([j // 2 == i // 2 for j in others], [units[i] @ units[j] for j in others]))
    ranks = view_retrieval.partner_rank(rows, chunk=7)
    np.testing.assert_allclose(ranks, expected, atol=1e-6)
    assert 0.6 < view_retrieval.mean_rank(ranks, seed=0).value < 1


def test_ranks_of_noise_and_of_a_collapsed_encoder_are_those_of_guessing():
    noise = view_retrieval.partner_rank(np.random.default_rng(5).normal(size=(2000, 16)))
    assert abs(noise.mean() - 0.5) < 0.02
    assert view_retrieval.partner_rank(np.ones((40, 4))).tolist() == [0.5] * 40


def test_noise_gives_chance():
    found = view_retrieval.partner_found(np.random.default_rng(2).normal(size=(2000, 16)))
    share = view_retrieval.share(found, seed=0)
    assert share.chance == 1 / 1999
    assert share.value < 0.005


def test_a_collapsed_encoder_finds_nothing():
    found = view_retrieval.partner_found(np.ones((40, 4)))
    assert found.mean() <= 2 / 40


def test_views_depend_on_the_seed_and_the_photo_alone(photo_catalog):
    all_views = view_retrieval.photo_views(photo_catalog, np.arange(8), size=24, seed=5)
    assert view_retrieval.photo_views(photo_catalog, np.array([6, 2]), size=24, seed=5) == [all_views[6], all_views[2]]
    assert view_retrieval.photo_views(photo_catalog, np.arange(8), size=24, seed=6) != all_views
    assert [len(views) for views in all_views] == [2] * 8


def test_share_is_over_photos():
    share = view_retrieval.share(np.array([True, False, True, True]), seed=0)
    assert share.value == pytest.approx(0.75)
