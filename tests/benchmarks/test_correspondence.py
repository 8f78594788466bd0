"""The benchmark of stage 3 runs, and its arithmetic is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.correspondence.__main__ import HEADLINES, headlines, main
from benchmarks.correspondence.filter import plain_filter
from benchmarks.correspondence.official import filter_in_python
from benchmarks.correspondence.part import best_overlaps
from benchmarks.correspondence.scaling import Constants, table
from stages.correspondence.filter import filter_boxes


def run(capsys: pytest.CaptureFixture[str], photos: Path, *arguments: str) -> dict[str, Any]:
    main(["--quick", "--rounds", "1", "--data", str(photos), *arguments])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_parts(capsys: pytest.CaptureFixture[str], photos_dir: Path, tmp_path: Path):
    report = run(capsys, photos_dir, "--only", "filter", "crops", "knn", "--out", str(tmp_path / "found.json"))
    assert set(HEADLINES) <= set(report)
    assert report["memory_growth"] is None
    assert report["filter_vs_python"] > 0
    assert report["filter"]["identical"] is True
    assert report["roi_crops_vs_pil"] > 0
    assert report["roi_crops_error_of_255"] < 0.1
    assert report["knn_recall"] > 0.999
    assert json.loads((tmp_path / "found.json").read_text()) == report


@pytest.mark.slow
def test_all_parts(capsys: pytest.CaptureFixture[str], shared_data: Path):
    report = run(capsys, shared_data)
    for name in HEADLINES:
        assert isinstance(report[name], float), name
    assert report["selective_search"]["boxes"]["exact"]["identical"] > 0.9
    assert report["felzenszwalb_identical"] > 0.99
    constants = Constants.of(report)
    assert "100,000,000" in table(constants)


def test_headlines_that_were_not_measured_are_none():
    found = {"filter": {"headline": {"filter_vs_python": 70.0}}}
    assert headlines(found) == dict.fromkeys(HEADLINES) | {"filter_vs_python": 70.0}


def test_best_overlaps():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [50, 50, 60, 60]])
    others = np.array([[0, 0, 10, 20], [5, 5, 15, 15]])
    np.testing.assert_allclose(best_overlaps(boxes, others), [0.5, 1.0, 0.0])


def test_all_filters_are_one():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 60, (400, 2))
    boxes = np.hstack([low, low + rng.integers(5, 60, (400, 2))])
    settings = {"min_side": 12, "max_aspect": 2.5, "max_iou": 0.5, "max_boxes": 15}
    kept = filter_boxes(boxes, **settings).tolist()
    assert plain_filter(boxes.tolist(), **settings) == kept
    assert filter_in_python(boxes.tolist(), **settings) == boxes[kept].tolist()


def test_time_grows_with_photos_and_the_search_not_with_their_square():
    constants = Constants(
        search=0.1, box=0.01, pairs=0.001, compare=1e-9, boxes=30, disk={"regions": 500.0, "roi_features": 1e5},
        memory=1e9,
        memory_a_photo=10.0,
    )  # fmt: skip
    small, large = constants.core_seconds(10_000), constants.core_seconds(20_000)
    assert large["regions"] == 2 * small["regions"] == 2000
    assert large["roi_features"] == 2 * small["roi_features"] == 6000
    assert constants.compared_rows(2_000_000) == 2_000_000
    assert constants.compared_rows(100_000_000) < 1_000_000
    assert len(table(constants).splitlines()) == 7
