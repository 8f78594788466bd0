from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import plant
from sklearn.svm import LinearSVC

from stages.data.catalog import Catalog
from stages.evaluation.low_shot_draws import draw_samples, drawn, possible_shots, samples_table
from stages.evaluation.metrics.average_precision import average_precision
from stages.evaluation.photo_labels import image_labels
from stages.evaluation.protocols import low_shot_svm
from stages.evaluation.saved import load_outcome
from stages.evaluation.svm import scaled_rows
from stages.report import Report

COSTS = (0.01, 1.0, 10.0)


@pytest.fixture
def labelled(make_catalog) -> tuple[Catalog, Catalog]:
    """60 photos each of three classes in turn; every tenth also has a difficult object of the next class."""
    rows = [(i, i % 3, 0, 0, 50, 50, False, False) for i in range(60)]
    rows += [(i, (i + 1) % 3, 0, 0, 50, 50, True, False) for i in range(0, 60, 10)]
    names = ("cat", "cow", "dog")
    return make_catalog("train", 60, rows, names), make_catalog("test", 60, rows, names)


def noisy(seed: int) -> np.ndarray:
    """Features that say something of the class, (60, 8)."""
    return np.eye(3, 8)[np.arange(60) % 3] + np.random.default_rng(seed).normal(0, 0.6, (60, 8))


def run(out: Path, labelled: tuple[Catalog, Catalog], made: tuple[Path, Path], **changes: Any) -> Report:
    out.mkdir(exist_ok=True)
    report = Report()
    train, test = labelled
    settings: dict[str, Any] = {"depth": "gap", "shots": [1, 4, 8], "costs": COSTS, "ap": "area", "seed": 3}
    low_shot_svm.run(
        out=out, report=report, features_train=made[0], features_test=made[1], train=train.directory,
        train_root=train.root, test=test.directory, test_root=test.root, workers=1, **(settings | changes),
    )  # fmt: skip
    return report


def test_draws_are_the_same_everywhere(labelled):
    train, _ = labelled
    candidates = np.arange(20)
    first = drawn(train, candidates, "cat", 1)
    # As any program finds them that hashes "1/cat/0.jpg" and so on. Never to change: figures would not compare.
    assert first[:5].tolist() == [8, 16, 19, 2, 0]
    assert drawn(train, candidates[::-1], "cat", 1).tolist() == first.tolist()
    assert sorted(first) == candidates.tolist()
    assert len({tuple(drawn(train, candidates, name, draw)) for name in ("cat", "dog") for draw in (1, 2)}) == 4


def test_samples_have_k_positives_and_as_many_others_a_class(labelled):
    train, _ = labelled
    labels = image_labels(train)
    samples = draw_samples(train, labels, np.arange(3), 8)
    assert len(samples) == 3 * 5
    for (c, _), sample in samples.items():
        assert (labels[sample.positives, c] == 1).all()
        assert (labels[sample.others, c] == -1).all(), "photos with difficult objects alone are not drawn"
        assert [len(sample.first(k)) for k in (1, 2, 8)] == [3, 6, 24]
        assert set(sample.first(2)) <= set(sample.first(8))
    table = samples_table(samples, train)
    assert table.columns.tolist() == ["draw", "class", "positive", "rank", "photo"]
    chosen = table[(table["draw"] == 2) & (table["class"] == "cow") & table["positive"]]
    assert chosen["photo"].tolist() == [f"{image}.jpg" for image in samples[1, 2].positives]
    assert chosen["rank"].tolist() == list(range(8))


def test_shots_that_some_class_has_too_few_photos_for_are_left_out():
    labels = np.array([[1, -1]] * 9 + [[-1, 1]] * 5, dtype=np.int8)
    assert possible_shots([1, 4, 8], labels) == [1, 4]
    with pytest.raises(ValueError, match="in 5 training photos only"):
        possible_shots([64], labels)
    with pytest.raises(ValueError, match="1 or more"):
        possible_shots([0], labels)


def test_agrees_with_a_plain_transcription_of_the_protocol(tmp_path, labelled):
    """VISSL's svm_low_shot: fits on the drawn photos alone, one cost by the mean over classes and draws."""
    train, test = noisy(0).astype(np.float32), noisy(1).astype(np.float32)
    report = run(tmp_path / "out", labelled, (plant(tmp_path / "a", gap=train), plant(tmp_path / "b", gap=test)))
    outcome = load_outcome(tmp_path / "out", "mine")
    table = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    table["image"] = table["photo"].str.removesuffix(".jpg").astype(int)
    labels = [image_labels(catalog) for catalog in labelled]
    rows, tested = scaled_rows(train), scaled_rows(test)
    for k in (1, 4, 8):
        on_test, on_rest = (np.zeros((3, 5, len(COSTS))) for _ in range(2))
        for (draw, name), taken in table.groupby(["draw", "class"]):
            c = labelled[0].categories.index(name)
            taken = taken[taken["rank"] < np.where(taken["positive"], k, 2 * k)]
            photos = np.sort(taken["image"].to_numpy())
            rest = np.setdiff1d(np.flatnonzero(labels[0][:, c] != 0), photos)
            known = labels[1][:, c] != 0
            for number, cost in enumerate(COSTS):
                svm = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=3)
                svm.fit(rows[photos], labels[0][photos, c])
                on_test[c, draw - 1, number] = average_precision(
                    svm.decision_function(tested)[known], labels[1][known, c] == 1
                )
                on_rest[c, draw - 1, number] = average_precision(
                    svm.decision_function(rows[rest]), labels[0][rest, c] == 1
                )
        best, clean = (means.mean(axis=(0, 1)).argmax() for means in (on_test, on_rest))
        assert outcome.values[f"map k={k}"]["mine"].value == pytest.approx(on_test.mean(axis=(0, 1))[best], abs=1e-6)
        assert outcome.values[f"clean map k={k}"]["mine"].value == pytest.approx(
            on_test.mean(axis=(0, 1))[clean], abs=1e-6
        )
        assert any(note.startswith(f"k={k}: map: cost {COSTS[best]:.3g},") for note in outcome.notes)
    assert report.metrics["map_4"] == outcome.values["map k=4"]["mine"].value
    assert report.metrics["clean_map_4"] <= report.metrics["map_4"]
    assert list(outcome.figures)[:4] == ["map k=1", "map k=4", "map k=8", "clean map k=1"]
    low, high = outcome.values["map k=8"]["mine"].interval
    assert low < outcome.values["map k=8"]["mine"].value < high


def test_perfect_features_score_everything_and_noise_chance(tmp_path, labelled):
    truth, noise = np.eye(3)[np.arange(60) % 3], np.random.default_rng(0).normal(size=(2, 60, 8))
    for name, train, test in (("perfect", truth, truth), ("noise", noise[0], noise[1])):
        made = plant(tmp_path / f"{name}a", gap=train), plant(tmp_path / f"{name}b", gap=test)
        run(tmp_path / name, labelled, made, costs=[1.0], shots=[4, 96])
    perfect, chance = (load_outcome(tmp_path / name, "mine") for name in ("perfect", "noise"))
    assert perfect.values["map k=4"]["mine"].value == 1
    estimate = chance.values["map k=4"]["mine"]
    assert estimate.value == pytest.approx(estimate.chance, abs=0.1)
    assert any("too few photos in train: k = 96" in note for note in perfect.notes)


def test_an_interrupted_run_goes_on(tmp_path, labelled):
    made = plant(tmp_path / "a", gap=noisy(0)), plant(tmp_path / "b", gap=noisy(1))
    run(tmp_path / "out", labelled, made, shots=[4])
    first = load_outcome(tmp_path / "out", "mine").values["map k=4"]["mine"].value
    scratch = tmp_path / "out" / "scratch"
    for file in (*scratch.glob("k4_class1_*.npz"), *scratch.glob("k4_class2_draw1.npz")):
        file.unlink()
    kept = {file.name: file.stat().st_mtime_ns for file in scratch.glob("*.npz")}
    assert len(kept) == 15 - 6
    run(tmp_path / "out", labelled, made, shots=[4])
    assert load_outcome(tmp_path / "out", "mine").values["map k=4"]["mine"].value == first
    assert {name: (scratch / name).stat().st_mtime_ns for name in kept} == kept
