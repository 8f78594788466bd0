"""Data set formats: which photos they name, and boxes checked against the raw annotations, parsed here by hand."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stages.data.formats import Listing, Source, read_listing


def _read(format: str, root: Path, **settings) -> Listing:
    return read_listing(Source(format, root, **settings), root)


def _labels(listing: Listing):
    assert listing.read_labels is not None
    return listing.read_labels()


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


# ---- folder -----------------------------------------------------------------------------------------------------


def test_folder_takes_any_depth_and_case_in_path_order(tmp_path: Path) -> None:
    _touch(tmp_path, "b.PNG", "a/z.jpg", "a/deep/er/x.JPeG", "a.webp", "notes.txt", "a/readme", "a/model.pt")
    _touch(tmp_path, ".hidden.jpg", ".cache/thumb.jpg", "a/._z.jpg", "Größe/ein bild.tif")
    listing = _read("folder", tmp_path)
    assert list(listing.paths) == ["Größe/ein bild.tif", "a.webp", "a/deep/er/x.JPeG", "a/z.jpg", "b.PNG"]
    assert listing.ignored == {".txt": 1, "(no suffix)": 1, ".pt": 1}
    assert listing.read_labels is None


def test_folder_follows_links_once_and_no_loops(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    _touch(elsewhere, "far.jpg")
    _touch(root, "real/one.jpg")
    (root / "0_link_to_real").symlink_to(root / "real")
    (root / "linked").symlink_to(elsewhere)
    (root / "linked_again").symlink_to(elsewhere)
    (root / "real" / "up").symlink_to(root)
    (elsewhere / "back").symlink_to(root)
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "file.jpg").symlink_to(elsewhere / "far.jpg")
    assert list(_read("folder", root).paths) == ["file.jpg", "linked/far.jpg", "real/one.jpg", "self.jpg"]


def test_folder_with_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    listing = _read("folder", tmp_path)
    assert list(listing.paths) == []
    assert listing.ignored.total() == 1


# ---- list file --------------------------------------------------------------------------------------------------


def test_list_file_keeps_its_order(tmp_path: Path) -> None:
    content = "\ufeff# photos\r\nb/2.jpg\r\n\r\na 1.jpg\n./b/../b/2.jpg\n" + f"{tmp_path}/c.jpg\n"
    (tmp_path / "list.txt").write_text(content, encoding="utf-8")
    listing = _read("list_file", tmp_path, list_file=tmp_path / "list.txt")
    assert list(listing.paths) == ["b/2.jpg", "a 1.jpg", "c.jpg"]


@pytest.mark.parametrize("line", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", ".."])
def test_list_file_cannot_leave_the_root(tmp_path: Path, line: str) -> None:
    (tmp_path / "list.txt").write_text(f"fine.jpg\n{line}\n")
    with pytest.raises(ValueError, match=f"{re.escape(repr(line))}, which lies outside dataset.root"):
        _read("list_file", tmp_path, list_file=tmp_path / "list.txt")


# ---- COCO -------------------------------------------------------------------------------------------------------


def _coco(path: Path, **changes) -> Path:
    content = {
        "images": [
            {"id": 70, "file_name": "b.jpg", "width": 100, "height": 50},
            {"id": 7, "file_name": "sub/a.jpg", "width": 40, "height": 40},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 3.25, 4], "iscrowd": 0,
             "segmentation": [[1.5, 2, 4.75, 2, 4.75, 6]]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1,
             "segmentation": {"counts": [0, 81], "size": [9, 9]}},
            {"id": 3, "image_id": 999, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 0},
        ],
    }  # fmt: skip
    path.write_text(json.dumps(content | changes))
    return path


def test_coco_maps_ids_and_keeps_segmentations(tmp_path: Path) -> None:
    listing = _read("coco", tmp_path, annotations=_coco(tmp_path / "instances.json"))
    assert list(listing.paths) == ["b.jpg", "sub/a.jpg"]
    labels = _labels(listing)
    assert labels.categories == ["car", "toothbrush"]
    assert labels.sizes.tolist() == [[100, 50], [40, 40]]
    rows = labels.objects.drop(columns="segmentation").to_numpy().tolist()
    assert rows == [[1, 1, 1.5, 2, 4.75, 6, False, False], [1, 0, 0, 0, 9, 9, False, True]]
    assert [json.loads(text) for text in labels.objects["segmentation"]] == [
        [[1.5, 2, 4.75, 2, 4.75, 6]],
        {"counts": [0, 81], "size": [9, 9]},
    ]


def test_lvis_names_photos_by_their_address(tmp_path: Path) -> None:
    address = "http://images.cocodataset.org/train2017/000000391895.jpg"
    images = [{"id": 7, "coco_url": address, "width": 40, "height": 40}]
    listing = _read("coco", tmp_path, annotations=_coco(tmp_path / "lvis.json", images=images))
    assert list(listing.paths) == ["train2017/000000391895.jpg"]
    assert _labels(listing).objects["image"].tolist() == [0, 0]
    images[0]["coco_url"] = "http://host/../.."
    with pytest.raises(ValueError, match=r"outside dataset\.root"):
        _read("coco", tmp_path, annotations=_coco(tmp_path / "lvis.json", images=images))


def test_coco_is_parsed_once_for_any_number_of_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("coco", tmp_path, annotations=_coco(tmp_path / "instances.json"))
    cache = tmp_path / "cache" / "hashes.npy"
    first = read_listing(source, tmp_path, cache)
    with monkeypatch.context() as context:
        context.setattr("json.load", None)
        second = read_listing(source, tmp_path, cache)
    assert list(first.paths) == list(second.paths) == ["b.jpg", "sub/a.jpg"]
    assert _labels(second).objects.equals(_labels(first).objects)
    _coco(tmp_path / "instances.json", annotations=[])
    assert read_listing(source, tmp_path, cache).read_labels is None
    assert read_listing(source, tmp_path, cache).read_labels is None


def test_coco_without_annotations_has_no_labels(tmp_path: Path) -> None:
    assert _read("coco", tmp_path, annotations=_coco(tmp_path / "info.json", annotations=[])).read_labels is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 1, "file_name": "../../etc/passwd"}]}, "outside dataset.root"),
        ({"images": [{"id": 1}]}, "needs `id` and `file_name`"),
        ({"images": None}, "no list `images`"),
    ],
)
def test_coco_refuses_what_it_cannot_list(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read("coco", tmp_path, annotations=_coco(tmp_path / "instances.json", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"id": 1, "image_id": 7, "caption": "a car"}]}, "annotation 0 has no `bbox`"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, None, 4]}]}, "four numbers"),
        ({"categories": []}, "category 3 of some annotations"),
    ],
)
def test_coco_refuses_labels_it_cannot_use(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _labels(_read("coco", tmp_path, annotations=_coco(tmp_path / "instances.json", **changes)))


def test_coco_refuses_what_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"instances.json is not JSON"):
        _read("coco", tmp_path, annotations=tmp_path / "instances.json")


@pytest.mark.parametrize(("split", "images", "objects", "crowds"), [("train", 200, 1639, 15), ("val", 100, 985, 8)])
def test_real_coco(shared_data: Path, split: str, images: int, objects: int, crowds: int) -> None:
    source = shared_data / "coco" / "annotations" / f"instances_{split}2017.json"
    listing = _read("coco", shared_data / "coco" / f"{split}2017", annotations=source)
    labels = _labels(listing)
    assert (len(listing.paths), len(labels.objects), labels.objects["crowd"].sum()) == (images, objects, crowds)
    assert (len(labels.categories), labels.categories[0], labels.categories[-1]) == (80, "person", "toothbrush")

    raw = json.loads(source.read_text())
    name_of = {each["id"]: each["name"] for each in raw["categories"]}
    file_of = {each["id"]: each["file_name"] for each in raw["images"]}
    expected = [(file_of[each["image_id"]], name_of[each["category_id"]]) for each in raw["annotations"]]
    found = [(listing.paths[image], labels.categories[number]) for image, number in
             labels.objects[["image", "category"]].to_numpy()]  # fmt: skip
    assert found == expected
    x, y, width, height = np.array([each["bbox"] for each in raw["annotations"]]).T
    boxes = labels.objects[["x0", "y0", "x1", "y1"]].to_numpy()
    np.testing.assert_allclose(boxes, np.stack([x, y, x + width, y + height], axis=1), rtol=0, atol=1e-9)
    assert [json.loads(text) for text in labels.objects["segmentation"]] == [
        each["segmentation"] for each in raw["annotations"]
    ]


def test_coco_sized_labels_stay_small(tmp_path: Path) -> None:
    """Peak memory of Python objects while reading, against the size of the file: raw parsing takes 6.4 times it."""
    rng = np.random.default_rng(0)
    annotations = [
        {
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 2, 3, 4],
            "segmentation": [rng.uniform(0, 640, 60).round(2).tolist()],
        }
        for _ in range(5000)
    ]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "thing"}]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content | {"annotations": annotations}))
    del annotations
    tracemalloc.start()
    listing = _read("coco", tmp_path, annotations=path)
    labels = _labels(listing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(labels.objects) == 5000
    assert peak < 4 * path.stat().st_size


# ---- VOC --------------------------------------------------------------------------------------------------------


def _voc(root: Path, year: str = "VOC2007", name: str = "dog") -> Path:
    kit = root / year
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (kit / folder).mkdir(parents=True)
    (kit / "ImageSets" / "Main" / "trainval.txt").write_text("000001  1\n000002 -1\n")
    xml = """<annotation><size><width>60</width><height>50</height></size>
        <object><name>{}</name><difficult>1</difficult>
            <bndbox><xmin>1</xmin><ymin>11</ymin><xmax>60</xmax><ymax>50</ymax></bndbox>
            <part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>
        </object></annotation>"""
    (kit / "Annotations" / "000001.xml").write_text(xml.format(name))
    (kit / "Annotations" / "000002.xml").write_text("<annotation></annotation>")
    return kit


def test_voc_boxes_become_half_open_from_zero(tmp_path: Path) -> None:
    listing = _read("voc", _voc(tmp_path), split="trainval")
    assert list(listing.paths) == ["JPEGImages/000001.jpg", "JPEGImages/000002.jpg"]
    labels = _labels(listing)
    assert labels.sizes.tolist() == [[60, 50], [0, 0]]
    assert len(labels.categories) == 20
    assert labels.objects.to_numpy()[:, :8].tolist() == [
        [0, labels.categories.index("dog"), 0, 10, 60, 50, True, False]
    ]


def test_voc_with_categories_of_its_own(tmp_path: Path) -> None:
    assert _labels(_read("voc", _voc(tmp_path, name="capybara"), split="trainval")).categories == ["capybara"]


def test_voc_root_may_hold_several_years(tmp_path: Path) -> None:
    _voc(tmp_path)
    assert _read("voc", tmp_path, split="trainval").paths[0] == "VOC2007/JPEGImages/000001.jpg"
    _voc(tmp_path, "VOC2012")
    assert _read("voc", tmp_path, split="VOC2012/trainval").paths[0] == "VOC2012/JPEGImages/000001.jpg"
    with pytest.raises(ValueError, match=r"'trainval' does not exist .*: VOC2007/trainval, VOC2012/trainval\."):
        _read("voc", tmp_path, split="trainval")


@pytest.mark.parametrize("split", ["train", "../../secret", "x/../trainval"])
def test_voc_lists_the_splits_there_are(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match=r"dataset.split=.* does not exist in .* one of: trainval\."):
        _read("voc", _voc(tmp_path), split=split)


def test_voc_photos_without_annotations(tmp_path: Path) -> None:
    kit = _voc(tmp_path)
    (kit / "Annotations" / "000002.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"000002.xml is missing"):
        _labels(_read("voc", kit, split="trainval"))
    (kit / "Annotations" / "000001.xml").unlink()
    (kit / "Annotations").rmdir()
    assert _read("voc", kit, split="trainval").read_labels is None


@pytest.mark.parametrize(
    "content",
    [
        "<annotation><object>",
        "<annotation><object><name>dog</name></object></annotation>",
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><object><name>&e;</name></object></annotation>',
    ],
)
def test_voc_refuses_damaged_or_hostile_annotations(tmp_path: Path, content: str) -> None:
    kit = _voc(tmp_path)
    (kit / "Annotations" / "000001.xml").write_text(content)
    with pytest.raises(ValueError, match=r"000001.xml is no VOC annotation"):
        _labels(_read("voc", kit, split="trainval"))


@pytest.mark.parametrize(("split", "images"), [("trainval", 2000), ("test", 1000)])
def test_real_voc(shared_data: Path, split: str, images: int) -> None:
    root = shared_data / "VOCdevkit" / "VOC2007"
    listing = _read("voc", root, split=split)
    labels = _labels(listing)
    assert len(listing.paths) == images

    boxes, difficult = [], []
    for path in listing.paths:  # by regular expression: independent of the XML parser
        text = (root / "Annotations" / f"{Path(path).stem}.xml").read_text()
        for found in re.findall(r"<object>(.*?)</object>", text, re.DOTALL):
            whole = re.sub(r"<part>.*?</part>", "", found, flags=re.DOTALL)
            x0, y0, x1, y1 = (
                float(re.findall(f"<{side}>(.*?)<", whole)[0]) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append([x0 - 1, y0 - 1, x1, y1])
            difficult.append("<difficult>1" in whole)
    np.testing.assert_array_equal(labels.objects[["x0", "y0", "x1", "y1"]], boxes)
    np.testing.assert_array_equal(labels.objects["difficult"], difficult)


# ---- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "settings", "error", "message"),
    [
        ("coco", {}, ValueError, "dataset.format=coco needs dataset.annotations"),
        ("coco", {"annotations": Path("/nowhere.json")}, FileNotFoundError, "dataset.annotations=/nowhere.json"),
        ("list_file", {}, ValueError, "dataset.format=list_file needs dataset.list_file"),
        ("voc", {}, ValueError, "dataset.format=voc needs dataset.split"),
        ("voc", {"split": "train"}, FileNotFoundError, "is no VOC development kit"),
        ("folders", {}, ValueError, "'folders' is unknown. Choose one of: folder, class_folders, coco"),
    ],
)
def test_missing_settings(tmp_path: Path, format: str, settings: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        _read(format, tmp_path, **settings)


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        _read("folder", tmp_path / "nowhere")
    _touch(tmp_path, "file")
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        _read("folder", tmp_path / "file")
