"""AP by VOC's rules against a plain transcription of the development kit, and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stages.evaluation.metrics.voc_ap import THRESHOLDS, Rule, voc_ap

SIDES = ["x0", "y0", "x1", "y1"]
Box = tuple[float, float, float, float]


def plain_ap(truth: pd.DataFrame, found: pd.DataFrame, category: int, threshold: float, rule: Rule) -> float:
    """VOCevaldet.m, one detection after the other."""
    objects = [row for row in truth.to_dict("records") if row["category"] == category]
    ranked = sorted(
        (row for row in found.to_dict("records") if row["category"] == category), key=lambda row: -row["score"]
    )
    taken, right, wrong = set(), [], []
    for row in ranked:
        best, largest = None, -np.inf
        for number, each in enumerate(objects):
            if each["image"] == row["image"]:
                width = min(row["x1"], each["x1"]) - max(row["x0"], each["x0"])
                height = min(row["y1"], each["y1"]) - max(row["y0"], each["y0"])
                shared = width * height if width > 0 and height > 0 else 0
                areas = sum((box["x1"] - box["x0"]) * (box["y1"] - box["y0"]) for box in (row, each))
                if shared / (areas - shared) > largest:
                    best, largest = number, shared / (areas - shared)
        if largest > threshold and objects[best]["difficult"]:
            right.append(0), wrong.append(0)
        else:
            hit = largest > threshold and best not in taken
            right.append(int(hit)), wrong.append(int(not hit))
            if hit:
                taken.add(best)
    positives = sum(not each["difficult"] for each in objects)
    recall = np.cumsum(right) / positives
    precision = np.cumsum(right) / np.maximum(np.cumsum(right) + np.cumsum(wrong), 1e-9)
    if rule == "11_point":
        levels = [k / 10 for k in range(11)]
        return sum(max([p for r, p in zip(recall, precision, strict=True) if r >= t], default=0) for t in levels) / 11
    recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))


def constructed(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """13 photos with objects of 3 classes, and detections around them and elsewhere."""
    rng = np.random.default_rng(seed)

    def box() -> Box:
        x, y, width, height = rng.uniform(0, 50, 4)
        return x, y, x + 10 + width, y + 10 + height

    truth, found = [], []
    for _ in range(60):
        row = (int(rng.integers(13)), int(rng.integers(3)), *box())
        truth.append((*row, bool(rng.random() < 0.2), False))
        for _ in range(rng.integers(0, 4)):
            moved = np.array(row[2:]) + rng.normal(0, 3, 4)
            found.append((row[0], row[1], rng.random(), *moved))
        found.append((int(rng.integers(13)), int(rng.integers(3)), rng.random(), *box()))
    columns = ["image", "category", *SIDES, "difficult", "crowd"]
    return pd.DataFrame(truth, columns=columns), pd.DataFrame(found, columns=["image", "category", "score", *SIDES])


@pytest.mark.parametrize("rule", ["11_point", "area"])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_development_kit(rule: Rule, seed: int) -> None:
    truth, found = constructed(seed)

    ours = voc_ap(truth, found, 4, rule=rule)

    plain = [[plain_ap(truth, found, category, t, rule) for t in THRESHOLDS] for category in range(3)]
    assert ours[:3] == pytest.approx(np.array(plain), abs=1e-6)
    assert np.isnan(ours[3]).all()
    assert 0.1 < ours[:3].mean() < 0.9


def test_by_hand() -> None:
    columns = ["image", "category", *SIDES, "difficult", "crowd"]
    truth = pd.DataFrame([(0, 0, 0, 0, 10, 10, False, False), (1, 0, 0, 0, 10, 10, False, False)], columns=columns)
    rows = [(0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 0, 0, 10, 10), (1, 0, 0.7, 0, 0, 10, 8)]
    found = pd.DataFrame(rows, columns=["image", "category", "score", *SIDES])

    # A hit, the same object once more, and one of IoU 0.8: at 0.8 and above it is none.
    assert voc_ap(truth, found, 1, rule="area")[0] == pytest.approx([(1 + 2 / 3) / 2] * 6 + [1 / 2] * 4)
    assert voc_ap(truth, found, 1, rule="11_point")[0, 0] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_perfect_detections_score_100_and_shuffled_labels_far_less() -> None:
    truth, _ = constructed(0)
    perfect = truth.assign(score=1.0)
    shuffled = perfect.assign(category=np.random.default_rng(0).permutation(perfect["category"]))

    for rule in ("11_point", "area"):
        assert voc_ap(truth, perfect, 3, rule=rule) == pytest.approx(np.ones((3, 10)))
        # A third of the labels is right by chance: a recall and a precision of about 1/3.
        assert voc_ap(truth, shuffled, 3, rule=rule).mean() < 0.3


def test_a_resample_is_the_photos_that_were_drawn() -> None:
    truth, found = constructed(1)
    chosen = np.array([0, 2, 2, 3, 5, 7, 8, 9, 9, 9, 10, 11, 12])

    def drawn(table: pd.DataFrame) -> pd.DataFrame:
        parts = [table[table["image"] == image].assign(image=new) for new, image in enumerate(chosen)]
        return pd.concat(parts, ignore_index=True)

    counts = np.bincount(chosen, minlength=13)[None]
    ours = voc_ap(truth, found, 3, rule="11_point", counts=counts)

    # Copies of a detection have one score; the order of the copies does not matter once all of them are counted.
    assert ours[0] == pytest.approx(voc_ap(drawn(truth), drawn(found), 3, rule="11_point"), abs=0.03)
    assert voc_ap(truth, found, 3, rule="area", counts=np.ones((2, 13), int))[1] == pytest.approx(
        voc_ap(truth, found, 3, rule="area")
    )
