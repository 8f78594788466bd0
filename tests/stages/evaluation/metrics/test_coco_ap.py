"""AP by COCO's rules against pycocotools' own evaluation of the same files, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.correspondence.masks.outlines import mask_of
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.evaluation.metrics.coco_ap import Federation, Kind, coco_ap, segmentation_area
from stages.report import Report

SIZES = np.full((4, 2), 100)
SIDES = ["x0", "y0", "x1", "y1"]


def objects(*rows: tuple[int, int, float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", "category", *SIDES]).assign(crowd=False, difficult=False)


def detections(*rows: tuple[int, int, float, float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", "category", "score", *SIDES])


@pytest.fixture(scope="module")
def val2017(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Path]:
    """30 photos of COCO, and the annotations of exactly these."""
    content = json.loads((shared_data / "coco" / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:30]
    chosen = {image["id"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in chosen]
    out, root = tmp_path_factory.mktemp("val2017"), shared_data / "coco" / "val2017"
    file = out / "instances.json"
    file.write_text(json.dumps(content))
    indexing.run(
        out=out, report=Report(), format="coco", root=root, annotations=file, split=None, list_file=None,
        min_side=1, max_rejected=0.0, workers=1,
    )  # fmt: skip
    return Catalog(out, root), file


def noisy(catalog: Catalog) -> pd.DataFrame:
    """Detections made of the objects: moved boxes and masks, some of a wrong class, some twice, some missing."""
    rng = np.random.default_rng(0)
    rows = []
    for row in catalog.labels.to_dict("records"):
        size = catalog.sizes[row["image"]].tolist()
        for _ in range(rng.integers(0, 4)):
            dx, dy = (
                int(rng.normal(0, 0.08 * max(4, row[high] - row[low]))) for low, high in (("x0", "x1"), ("y0", "y1"))
            )
            mask = np.roll(mask_of(json.loads(row["segmentation"]), size), (dy, dx), axis=(0, 1))
            coded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
            category = row["category"] if rng.random() < 0.8 else rng.integers(80)
            box = (row["x0"] + dx, row["y0"] + dy, row["x1"] + dx, row["y1"] + dy)
            rows.append((row["image"], int(category), rng.random(), *box, coded["counts"]))
    return pd.DataFrame(rows, columns=["image", "category", "score", *SIDES, "mask"])


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_agrees_with_pycocotools_on_its_own_files(kind: Kind, val2017: tuple[Catalog, Path]) -> None:
    catalog, file = val2017
    found = noisy(catalog)
    truth = COCO(file)
    ids = {Path(image["file_name"]).name: image["id"] for image in truth.dataset["images"]}
    categories = sorted(truth.getCatIds())
    results = []
    for row in found.to_dict("records"):
        size = catalog.sizes[row["image"]][::-1].tolist()
        shape = {
            "boxes": {"bbox": [row["x0"], row["y0"], row["x1"] - row["x0"], row["y1"] - row["y0"]]},
            "masks": {"segmentation": {"size": size, "counts": row["mask"]}},
        }[kind]
        named = {"image_id": ids[Path(catalog.name(row["image"])).name], "category_id": categories[row["category"]]}
        results.append(named | shape | {"score": row["score"]})
    reference = COCOeval(truth, truth.loadRes(results), "segm" if kind == "masks" else "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()

    ours = coco_ap(catalog.labels, found, catalog.sizes, 80, kind=kind).figures

    assert list(ours) == ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
    assert list(ours.values()) == pytest.approx(reference.stats[:6].tolist(), abs=1e-6)
    assert 0.1 < ours["ap"] < 0.9


def test_perfect_detections_score_100_and_shuffled_labels_next_to_nothing(val2017: tuple[Catalog, Path]) -> None:
    catalog, _ = val2017
    labels = catalog.labels[~catalog.labels["crowd"]]
    perfect = labels.assign(score=1.0)[["image", "category", "score", *SIDES]]
    shuffled = perfect.assign(category=np.random.default_rng(0).permutation(perfect["category"]))

    assert coco_ap(labels, perfect, catalog.sizes, 80, kind="boxes").figures["ap"] == pytest.approx(1)
    # By chance a label is right as often as two random objects have one class: about 1 in 9 here, most of them people.
    assert coco_ap(labels, shuffled, catalog.sizes, 80, kind="boxes").figures["ap"] < 0.1


def test_average_precision_by_hand() -> None:
    truth = objects((0, 0, 0, 0, 10, 10), (1, 0, 0, 0, 10, 10))
    # A hit, a wrong one, a hit of IoU 0.6: at the thresholds up to 0.6 the precision is 1 up to recall 0.5, then 2/3.
    found = detections((0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 50, 50, 60, 60), (1, 0, 0.7, 0, 0, 10, 6))

    measured = coco_ap(truth, found, SIZES, 2, kind="boxes")

    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert measured.precision[0, :, 0] == pytest.approx([both] * 3 + [one] * 7)
    assert measured.of_category[0] == pytest.approx((3 * both + 7 * one) / 10)
    assert np.isnan(measured.of_category[1])
    assert measured.figures["ap_small"] == pytest.approx(measured.figures["ap"])
    assert np.isnan(measured.figures["ap_large"])


def test_only_the_best_detections_of_a_photo_count() -> None:
    truth = objects((0, 0, 0, 0, 10, 10))
    wrong = [(0, 0, 0.9, 50, 50, 60, 60 + i) for i in range(3)]
    found = detections(*wrong, (0, 0, 0.5, 0, 0, 10, 10))

    assert coco_ap(truth, found, SIZES, 1, kind="boxes", limit=3).figures["ap"] == 0
    assert coco_ap(truth, found, SIZES, 1, kind="boxes", limit=4).figures["ap"] == pytest.approx(1 / 4)


def test_lvis_looks_only_where_annotators_have_looked() -> None:
    truth = objects((0, 0, 0, 0, 10, 10))
    hit, beside = (0, 0, 0.5, 0, 0, 10, 10), (0, 0, 0.9, 50, 50, 60, 60)
    elsewhere, absent = (1, 0, 0.8, 0, 0, 9, 9), (2, 0, 0.7, 0, 0, 9, 9)

    def ap(absent_in: set[int], incomplete_in: set[int]) -> float:
        federation = Federation({0: absent_in}, {0: incomplete_in}, ["f"])
        found = detections(hit, beside, elsewhere, absent)
        return coco_ap(truth, found, SIZES, 1, kind="boxes", federation=federation).figures["ap"]

    assert coco_ap(truth, detections(hit, beside, elsewhere, absent), SIZES, 1, kind="boxes").figures[
        "ap"
    ] == pytest.approx(1 / 4)
    assert ap(set(), set()) == pytest.approx(1 / 2)
    assert ap({2}, set()) == pytest.approx(1 / 3)
    assert ap({2}, {0}) == pytest.approx(1 / 2)
    assert ap(set(), {0}) == pytest.approx(1)


def test_areas_of_objects_are_those_of_the_files(shared_data: Path) -> None:
    content = json.loads((shared_data / "coco" / "annotations" / "instances_val2017.json").read_text())
    for each in content["annotations"]:
        if not each["iscrowd"]:  # areas of crowds, which nothing depends on, are of an older drawing
            assert segmentation_area(each["segmentation"]) == pytest.approx(each["area"], rel=1e-9)


def test_what_can_not_be_measured_says_so() -> None:
    alone = objects((0, 0, 0, 0, 9, 9))
    with pytest.raises(ValueError, match="1 of 1 labelled objects have no mask"):
        coco_ap(alone.assign(segmentation=None), detections(), SIZES, 1, kind="masks")
    with pytest.raises(ValueError, match="no test photo has a labelled object that counts"):
        coco_ap(alone.assign(crowd=True), detections(), SIZES, 1, kind="boxes")
