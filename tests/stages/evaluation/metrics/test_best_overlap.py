"""Average best overlap, recovery and CorLoc against plain loops over pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, MaskStack, runs_of_mask
from stages.data.scenes.coco import run_lengths
from stages.evaluation.estimates import resample_counts
from stages.evaluation.metrics import best_overlap
from stages.evaluation.metrics.best_overlap import Overlaps, object_box, of_boxes, of_regions

SIDE = 24


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def row(mask: np.ndarray, category: int, **other: object) -> dict[str, object]:
    (y0, x0), (y1, x1) = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
    box = {"x0": float(x0), "y0": float(y0), "x1": float(x1), "y1": float(y1)}
    text = json.dumps(run_lengths(mask))
    return {"image": 0, "category": category, **box, "crowd": False, "difficult": False, "segmentation": text} | other


@pytest.fixture
def photos(tmp_path: Path, write_catalog) -> Catalog:
    """Photos that don't exist, of SIDE x SIDE pixels."""
    write_catalog(tmp_path, pd.DataFrame({"path": ["0.jpg", "1.jpg"], "width": SIDE, "height": SIDE}))
    return Catalog(tmp_path, tmp_path)


def blobs(rng: np.random.Generator, number: int) -> np.ndarray:
    """(number, SIDE, SIDE) bool, each a rectangle with holes, so that it is not its box."""
    masks = np.zeros((number, SIDE, SIDE), bool)
    for mask in masks:
        y, x = rng.integers(0, SIDE - 6, 2)
        height, width = rng.integers(4, 12, 2)
        mask[y : y + height, x : x + width] = rng.random((SIDE - y, SIDE - x))[:height, :width] < 0.8
    return masks


def test_figures_are_those_of_the_definitions(photos: Catalog) -> None:
    rng = np.random.default_rng(0)
    best, of_classes, hits, measured = [], [], [], []
    for image in range(2):
        objects, categories = blobs(rng, 4), np.array([0, 1, 1, 0])
        labels = rng.integers(0, 5, (SIDE // 4, SIDE // 4))
        regions = [np.kron(labels == each, np.ones((4, 4))) > 0 for each in range(5)]
        chosen = np.array([3, 3, 3 + 9, 3 + 8 + image])
        table = pd.DataFrame([row(mask, category) for mask, category in zip(objects, categories, strict=True)])
        ignored = pd.DataFrame([row(objects[0], 2, crowd=True), row(objects[1], 3, difficult=True)])
        table = pd.concat([table, ignored], ignore_index=True)
        measured.append(of_regions(LabelMaps((SIDE, SIDE), [labels]), chosen[None], table, photos, image))
        best += [max(iou(mask, region) for region in regions) for mask in objects]
        united = [objects[categories == category].any(axis=0) for category in (0, 1)]
        of_classes += [max(iou(mask, region) for region in regions) for mask in united]
        box = np.zeros((SIDE, SIDE), bool)
        box[chosen[1] : chosen[3], chosen[0] : chosen[2]] = True
        hits.append(any(iou(box, np.outer(mask.any(1), mask.any(0))) >= 0.5 for mask in objects))
    found = best_overlap.estimates(Overlaps.joined(measured), ["only"], None, seed=0)
    assert found["abo_i"].value == pytest.approx(np.mean(best), abs=1e-6)
    assert found["abo_c"].value == pytest.approx(np.mean(of_classes), abs=1e-6)
    assert found["recovery"].value == pytest.approx(np.mean(np.array(best) > 0.5), abs=1e-6)
    assert found["corloc"].value == np.mean(hits)
    assert set(found) == {"abo_i", "abo_c", "recovery", "corloc"}  # one layer is all there is


def test_the_labelled_masks_themselves_score_100(photos: Catalog) -> None:
    masks = blobs(np.random.default_rng(1), 3)
    table = pd.DataFrame([row(mask, category) for category, mask in enumerate(masks)])
    stack = MaskStack.of((SIDE, SIDE), [runs_of_mask(mask) for mask in masks], np.ones(3))
    chosen = table[["x0", "y0", "x1", "y1"]].to_numpy(np.int64)[:1]
    found = best_overlap.estimates(of_regions(stack, chosen, table, photos, 0), [], None, seed=0)
    assert {key: each.value for key, each in found.items()} == dict.fromkeys(found, 1.0)
    assert len(found) == 4


def test_each_layer_has_its_figures_and_all_take_the_best(photos: Catalog) -> None:
    left, top = np.zeros((2, SIDE, SIDE), bool)
    left[:, : SIDE // 2], top[: SIDE // 2] = True, True
    table = pd.DataFrame([row(left, 0), row(top, 1)])
    halves = LabelMaps((SIDE, SIDE), [np.array([[0, 1]]), np.array([[0], [1]])])  # left and right, top and bottom
    chosen = np.array([[0, 0, SIDE, SIDE // 2], [0, 0, 1, 1]])
    found = best_overlap.estimates(of_regions(halves, chosen, table, photos, 0), ["a", "b"], None, seed=0)
    assert found["abo_i"].value == 1
    assert found["abo_i_a"].value == found["abo_i_b"].value == pytest.approx((1 + 1 / 3) / 2)
    assert (found["corloc_a"].value, found["corloc_b"].value) == (1, 0)
    assert found["corloc"].value == 1  # the first layer's, as one box is asked for
    figures = best_overlap.figures(list(found), ["a", "b"], "clusters")
    assert list(figures) == list(found)
    assert len({figure.title for figure in figures.values()}) == len(figures)


def test_boxes_are_measured_by_the_first_of_them() -> None:
    objects = pd.DataFrame([row(np.ones((10, 10), bool), 0), row(np.ones((10, 20), bool), 0)])
    boxes = np.array([[0, 0, 10, 4], *[[30, 30, 31, 31]] * 99, [0, 0, 10, 10]])
    found = best_overlap.estimates(of_boxes(boxes, objects), best_overlap.BOX_LAYERS, None, seed=0)
    assert found["box_abo"].value == pytest.approx((1 + 0.5) / 2)
    assert found["box_abo_first_100"].value == pytest.approx((0.4 + 0.2) / 2)
    assert (found["box_recovery"].value, found["box_recovery_first_100"].value) == (1, 0)
    assert found["corloc"].value == 0


def test_photos_without_objects_do_not_count_and_resamples_are_ratios_of_sums(photos: Catalog) -> None:
    rng = np.random.default_rng(2)
    labels, whole = LabelMaps((SIDE, SIDE), [np.arange(4).reshape(2, 2)]), np.array([[0, 0, SIDE, SIDE]])
    tables = [pd.DataFrame([row(mask, 0) for mask in blobs(rng, number)]) for number in (1, 3, 2)]
    tables.append(tables[0].iloc[:0])
    measured = Overlaps.joined([of_regions(labels, whole, table, photos, 0) for table in tables])
    found = best_overlap.estimates(measured, [], measured, seed=5)["abo_i"]
    counts, sums = np.array([1, 3, 2, 0]), measured.overlap[:, 0, -1]
    drawn = resample_counts(4, 5)[7]
    assert found.resamples is not None
    assert found.resamples[7] == pytest.approx((drawn * sums).sum() / (drawn * counts).sum())
    assert found.chance == found.value
    assert np.isnan(measured.located[3]).all()


def test_the_object_box_is_around_the_largest_part_of_what_keeps_off_the_border() -> None:
    labels = np.zeros((6, 8), int)
    labels[2:5, 3:6] = 1
    labels[3, 4] = 7
    labels[1, 1] = 1  # another part of the same region
    np.testing.assert_array_equal(object_box(labels, (8, 6)), [3, 2, 6, 5])
    np.testing.assert_array_equal(object_box(labels, (80, 60)), [30, 20, 60, 50])
    np.testing.assert_array_equal(object_box(np.zeros((6, 8), int), (8, 6)), [0, 0, 8, 6])


def test_a_frame_that_padding_makes_does_not_hide_the_border() -> None:
    labels = np.zeros((32, 32), int)  # what lies around the object
    labels[[0, -1]], labels[:, [0, -1]] = 1, 1
    labels[12:20, 10:15] = 2
    np.testing.assert_array_equal(object_box(labels, (32, 32)), [10, 12, 15, 20])


def test_a_box_on_the_map_is_that_of_the_enlarged_map() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        labels = (rng.random((5, 7)) < 0.3).astype(int)
        labels[2, 3] = 1
        size = (int(rng.integers(20, 90)), int(rng.integers(20, 90)))
        x0, y0, x1, y1 = object_box(labels, size)
        (enlarged,) = LabelMaps(size, [np.arange(35).reshape(5, 7)]).layers()
        small = object_box(labels, (7, 5))
        cells = np.arange(35).reshape(5, 7)[small[1] : small[3], small[0] : small[2]]
        assert set(enlarged[y0:y1, x0:x1].ravel()) == set(cells.ravel())
        assert np.isin(enlarged, cells).sum() == (y1 - y0) * (x1 - x0)


def test_files_keep_everything(tmp_path: Path, photos: Catalog) -> None:
    labels = LabelMaps((SIDE, SIDE), [np.arange(4).reshape(2, 2)])
    table = pd.DataFrame([row(blobs(np.random.default_rng(4), 1)[0], 0)])
    one = of_regions(labels, np.array([[0, 0, 5, 5]]), table, photos, 0)
    other = of_regions(labels, None, table, photos, 0)
    for number, found in enumerate((one, other)):
        best_overlap.save(tmp_path / f"{number}.npz", found, one)
    found, chance = best_overlap.load([tmp_path / "0.npz", tmp_path / "1.npz"])
    for name, array in vars(Overlaps.joined([one, other])).items():
        np.testing.assert_array_equal(vars(found)[name], array)
        np.testing.assert_array_equal(vars(chance)[name], vars(Overlaps.joined([one, one]))[name])
    best_overlap.save(tmp_path / "none.npz", one, None)
    assert best_overlap.load([tmp_path / "none.npz"])[1] is None
