from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.evaluation.tasks.dense import class_maps
from stages.evaluation.tasks.dense.class_maps import ClassMaps
from stages.evaluation.tasks.dense.label_styles import IGNORED, STYLES
from stages.report import Report
from stages.shards import LocalEngine

BLACK = np.zeros((10, 14, 3), np.uint8)


def make(out: Path, catalog: Catalog, source: str, labels: Path | None = None) -> ClassMaps:
    out.mkdir(exist_ok=True)
    class_maps.run(
        out=out, report=Report(), catalog=catalog.directory, root=catalog.root, source=source, labels=labels,
        workers=1, engine=LocalEngine(1),
    )  # fmt: skip
    return ClassMaps(out)


def save_map(path: Path, numbers: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(numbers.astype(np.uint8))
    if palette:
        picture.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    picture.save(path)


@pytest.mark.parametrize(
    ("style", "photo", "file"),
    [
        ("pascal", "JPEGImages/2007_000032.jpg", "2007_000032.png"),
        ("cityscapes", "ulm/ulm_000000_000019_leftImg8bit.png", "ulm/ulm_000000_000019_gtFine_labelIds.png"),
        ("ade20k", "ADE_train_00000001.jpg", "ADE_train_00000001.png"),
        ("coco_stuff", "train2017/000000000009.jpg", "train2017/000000000009.png"),
    ],
)
def test_names_of_label_maps(style, photo, file):
    assert STYLES[style].file_of(photo) == file


def test_a_photo_of_another_name_than_cityscapes_is_refused():
    with pytest.raises(ValueError, match=r"should be named \*_leftImg8bit.png"):
        STYLES["cityscapes"].file_of("ulm/street.png")


def test_numbers_become_classes():
    classes = {name: len(style.names) for name, style in STYLES.items()}
    assert classes == {"pascal": 21, "cityscapes": 19, "ade20k": 150, "coco_stuff": 171}
    pascal, cityscapes, ade20k, coco_stuff = (STYLES[name].table() for name in classes)
    assert (pascal[0], pascal[20], pascal[255]) == (0, 20, IGNORED)
    assert (cityscapes[7], cityscapes[33], cityscapes[0], cityscapes[29]) == (0, 18, IGNORED, IGNORED)
    assert STYLES["cityscapes"].names[cityscapes[24]] == "person"
    assert (ade20k[0], ade20k[1], ade20k[150]) == (IGNORED, 0, 149)
    assert (coco_stuff[0], coco_stuff[11], coco_stuff[12], coco_stuff[181]) == (0, IGNORED, 11, 170)


def test_label_maps_with_a_palette(tmp_path, make_photos):
    catalog = make_photos({"JPEGImages/a.jpg": BLACK, "JPEGImages/b.jpg": BLACK})
    numbers = np.random.default_rng(0).choice([0, 3, 20, 255], size=(2, 10, 14))
    for name, each in zip("ab", numbers, strict=True):
        save_map(tmp_path / "labels" / f"{name}.png", each, palette=True)
    maps = make(tmp_path / "out", catalog, "pascal", tmp_path / "labels")
    assert maps.names[:2] == ["background", "aeroplane"]
    for image, each in enumerate(numbers):
        np.testing.assert_array_equal(maps[image], np.where(each == 255, IGNORED, each))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(maps))[1], maps[1])  # noqa: S301 - our own
    with pytest.raises(ValueError, match="not of one run"):
        maps.check(3)


def test_a_stopped_run_reads_no_label_map_again(tmp_path, make_photos):
    catalog = make_photos({"a.jpg": BLACK})
    save_map(tmp_path / "labels" / "a.png", np.full((10, 14), 2))
    before = make(tmp_path / "out", catalog, "ade20k", tmp_path / "labels")[0]
    save_map(tmp_path / "labels" / "a.png", np.full((10, 14), 9))
    (tmp_path / "out" / "masks.bin").unlink()
    np.testing.assert_array_equal(make(tmp_path / "out", catalog, "ade20k", tmp_path / "labels")[0], before)


@pytest.mark.parametrize("numbers", [np.zeros((14, 10)), np.zeros((10, 14, 3))])
def test_maps_of_another_size_or_of_colours_are_refused(tmp_path, make_photos, numbers):
    save_map(tmp_path / "labels" / "a.png", numbers)
    with pytest.raises(ValueError, match=r"one number a pixel, no colours. Expected: .*host.robots.ox.ac.uk"):
        make(tmp_path / "out", make_photos({"a.jpg": BLACK}), "pascal", tmp_path / "labels")


def test_what_is_missing_is_named_with_the_place_to_get_it(tmp_path, make_photos):
    catalog = make_photos({"a.jpg": BLACK, "b.jpg": BLACK})
    with pytest.raises(FileNotFoundError, match=r"is no folder of label maps.*sceneparsing.csail.mit.edu"):
        make(tmp_path / "out", catalog, "ade20k", tmp_path / "nowhere")
    save_map(tmp_path / "labels" / "a.png", np.zeros((10, 14)))
    with pytest.raises(FileNotFoundError, match=r"1 of 2 photos have no label map in .*, such as b.png"):
        make(tmp_path / "out", catalog, "coco_stuff", tmp_path / "labels")
    with pytest.raises(ValueError, match=r"no masks of objects.*source pascal, cityscapes"):
        make(tmp_path / "out", catalog, "objects")
    with pytest.raises(ValueError, match="Choose one of: pascal"):
        make(tmp_path / "out", catalog, "voc", tmp_path / "labels")


def coco_document(annotations: list[dict]) -> dict:
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": 14, "height": 10}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [{"image_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 0} | each for each in annotations],
    }


def square(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def test_objects_on_a_background(tmp_path, make_photos):
    document = coco_document(
        [
            {"id": 1, "category_id": 1, "segmentation": square(2, 2, 2)},
            {"id": 2, "category_id": 5, "segmentation": square(0, 0, 6)},  # larger, so it lies below the cat
            {"id": 3, "category_id": 1, "segmentation": square(5, 0, 9), "iscrowd": 1},
        ]
    )
    maps = make(tmp_path / "out", make_photos({"a.png": BLACK}, document), "objects")
    assert maps.names == ["background", "cat", "dog"]
    expected = np.zeros((10, 14), int)
    expected[0:9, 5:14] = IGNORED
    expected[0:6, 0:6] = 2
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(maps[0], expected)


def test_objects_of_real_photos_as_pycocotools_draws_them(tmp_path, shared_data):
    from pycocotools.coco import COCO

    root, annotations = shared_data / "coco" / "val2017", next((shared_data / "coco").rglob("instances_val2017*.json"))
    document = json.loads(annotations.read_text())
    document["images"] = document["images"][:8]
    (tmp_path / "few.json").write_text(json.dumps(document))
    (tmp_path / "catalog").mkdir()
    indexing.run(
        out=tmp_path / "catalog", report=Report(), format="coco", root=root, annotations=tmp_path / "few.json",
        split=None, list_file=None, min_side=32, max_rejected=0.0, workers=1,
    )  # fmt: skip
    catalog = Catalog(tmp_path / "catalog", root)
    maps = make(tmp_path / "out", catalog, "objects")
    truth = COCO(tmp_path / "few.json")
    number = {category["id"]: maps.names.index(category["name"]) for category in document["categories"]}
    image_id = {entry["file_name"]: entry["id"] for entry in document["images"]}
    for image in range(len(catalog)):
        expected = np.zeros(maps[image].shape, int)
        found = truth.loadAnns(truth.getAnnIds(image_id[catalog.name(image)]))
        for crowd in (1, 0):
            drawn = [(truth.annToMask(each) == 1, each) for each in found if each["iscrowd"] == crowd]
            for mask, each in sorted(drawn, key=lambda pair: -pair[0].sum()):
                expected[mask] = IGNORED if crowd else number[each["category_id"]]
        assert (maps[image] == expected).mean() > 0.99  # but for pixels along outlines
