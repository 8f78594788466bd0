from __future__ import annotations

from benchmarks import svm_search


def test_both_ways_find_the_same():
    report = svm_search.measure(90, rounds=1, costs=(0.01, 1.0))
    assert report["fits"] == 20 * 7
    assert report["largest_difference_of_precision"] < 1e-9
    assert set(report["seconds"]) == {"loop", "one_process", "all_cores"}
