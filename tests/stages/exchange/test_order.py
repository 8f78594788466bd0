"""Which photo stands at which place of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.data.catalog import Catalog
from stages.exchange.order import photo_numbers


def named(path: Path, *names: object) -> Path:
    path.write_text(json.dumps({"images": {"file_name": names}}))
    return path


def test_by_the_last_part_of_the_path_in_any_order(four_photos: Catalog, tmp_path: Path):
    path = named(tmp_path / "knn.json", "d.jpg", "train2017/a.jpg", "/data/coco/c.jpg", "b.jpg")
    assert photo_numbers(path, four_photos).tolist() == [3, 0, 2, 1]


def test_by_a_text_file(four_photos: Catalog, tmp_path: Path):
    path = tmp_path / "train2017.txt"
    path.write_text("b.jpg\nc.jpg\na.jpg\nd.jpg\n\n")
    assert photo_numbers(path, four_photos).tolist() == [1, 2, 0, 3]


def test_by_the_whole_path_where_last_parts_are_equal(make_catalog: Callable[..., Catalog], tmp_path: Path):
    catalog = make_catalog("x/1.jpg", "y/1.jpg", "y/2.jpg")
    path = named(tmp_path / "knn.json", "y/2.jpg", "./y/1.jpg", "x/1.jpg")
    assert photo_numbers(path, catalog).tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match=r"another data set"):
        photo_numbers(named(path, "2.jpg", "y/1.jpg", "x/1.jpg"), catalog)


def test_a_file_of_another_data_set_names_counts_and_photos(four_photos: Catalog, tmp_path: Path):
    path = named(tmp_path / "knn.json", "a.jpg", "b.jpg", *(f"{number}.jpg" for number in range(5)))
    with pytest.raises(
        ValueError,
        match=r"names 7 photos, the catalog of .* has 4\. Only in the file: '0\.jpg', '1\.jpg', '2\.jpg' and 2 more\. "
        r"Only in the catalog: 'train/c\.jpg', 'train/d\.jpg'\.",
    ):
        photo_numbers(path, four_photos)
    with pytest.raises(ValueError, match=r"names 3 photos.*Only in the file: none"):
        photo_numbers(named(path, "a.jpg", "b.jpg", "c.jpg"), four_photos)


def test_a_photo_named_twice(four_photos: Catalog, tmp_path: Path):
    path = named(tmp_path / "knn.json", "a.jpg", "b.jpg", "c.jpg", "b.jpg")
    with pytest.raises(ValueError, match=r"names a photo twice: 'b\.jpg', 'b\.jpg'"):
        photo_numbers(path, four_photos)


def test_names_that_are_none(four_photos: Catalog, tmp_path: Path):
    with pytest.raises(ValueError, match="holds 7 where the name of a photo is due"):
        photo_numbers(named(tmp_path / "knn.json", "a.jpg", 7), four_photos)
    path = tmp_path / "selective_search.json"
    path.write_text('{"bbox": [[[0, 0, 5, 5]]]}')
    with pytest.raises(ValueError, match=r"has no list images\.file_name.*exchange\.order"):
        photo_numbers(path, four_photos)
