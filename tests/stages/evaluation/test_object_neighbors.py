from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.objects import measured_objects, object_views
from stages.evaluation import object_neighbors
from stages.evaluation.embeddings import Embeddings, nearest_of_other_groups


def naive_nearest(embeddings: np.ndarray, groups: np.ndarray) -> list[int]:
    nearest = []
    for i, query in enumerate(embeddings):
        best, found = -np.inf, -1
        for j, other in enumerate(embeddings):
            cosine = query @ other / (np.linalg.norm(query) * np.linalg.norm(other))
            if groups[i] != groups[j] and cosine > best:
                best, found = cosine, j
        nearest.append(found)
    return nearest


@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 6), st.integers(1, 30))
def test_nearest_of_another_photo_agrees_with_two_loops(seed, rows, photos, chunk):
    rng = np.random.default_rng(seed)
    embeddings, groups = rng.normal(size=(rows, 5)), rng.integers(photos, size=rows)
    assert nearest_of_other_groups(embeddings, groups, chunk).tolist() == naive_nearest(embeddings, groups)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=2, max_size=20))
def test_chance_agrees_with_counting(objects):
    images, categories = np.array(objects).T
    chance = object_neighbors.chance_same_class(images, categories)
    for i, expected in enumerate(chance):
        others = categories[images != images[i]]
        assert expected == pytest.approx((others == categories[i]).mean() if len(others) else 0.0)


def test_features_that_are_the_class_find_it_always(make_catalog):
    objects = [(i, c, 0, 0, 40, 40, False, False) for i in range(6) for c in (i % 2, (i + 1) % 2)]
    catalog = make_catalog("c", 6, objects)
    features = np.eye(2, dtype=np.float32)[[c for _, c, *_ in objects]]
    outcome = object_neighbors.evaluate({"planted": Embeddings(features, features)}, catalog, object_size=8, seed=0)
    assert outcome.values["micro"]["planted"].value == outcome.values["macro"]["planted"].value == 1
    assert outcome.values["micro"]["planted"].chance == pytest.approx(0.5)


def test_micro_counts_objects_and_macro_classes():
    hits = np.array([1, 1, 1, 0], dtype=bool)
    images, categories = np.arange(4), np.array([0, 0, 0, 1])
    shares = object_neighbors.shares(hits, np.full(4, 0.3), images, categories, seed=0)
    assert (shares["micro"].value, shares["macro"].value) == (0.75, 0.5)


def test_which_objects_are_compared(make_catalog):
    kept = [(0, 0, 0, 0, 16, 16, False, False), (2, 0, 0, 0, 40, 90, False, False), (2, 1, 0, 0, 40, 40, False, False)]
    left_out = [
        (1, 0, 0, 0, 15, 90, False, False),
        (1, 0, 0, 0, 90, 90, True, False),
        (1, 0, 0, 0, 90, 90, False, True),
    ]
    catalog = make_catalog("c", 3, [*kept[1:], *left_out, kept[0]])
    objects = measured_objects(catalog)
    assert objects["image"].tolist() == [0, 2, 2]
    views = object_views(objects, 24)
    assert [[view.image for view in of_photo] for of_photo in views] == [[0], [2, 2]]
    assert views[1][0].box == (0, 0, 40, 90)

    features = np.eye(3, dtype=np.float32)
    outcome = object_neighbors.evaluate({"any": Embeddings(features, features)}, catalog, object_size=24, seed=0)
    assert outcome.settings["asked_objects"] == 2, "the only dog can't find another one"
    assert any("dog" in note for note in outcome.notes)


def test_no_class_in_two_photos_is_an_error(make_catalog):
    lonely = make_catalog("c", 2, [(0, 0, 0, 0, 40, 40, False, False), (1, 1, 0, 0, 40, 40, False, False)])
    with pytest.raises(ValueError, match="Test on more photos"):
        measured_objects(lonely)
