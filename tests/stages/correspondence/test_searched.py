"""The picture that is searched: its size, its pixels, and the way back to the photo."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.correspondence.searched import open_searched, searched_size, to_original
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.unreadable import UnreadablePhoto
from stages.report import Report

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("original", "max_side", "max_pixels", "expected"),
    [
        ((640, 480), None, 4 * MILLION, (640, 480)),
        ((640, 480), 320, 4 * MILLION, (320, 240)),
        ((640, 480), 1000, 4 * MILLION, (640, 480)),
        ((4000, 2000), None, 2 * MILLION, (2000, 1000)),
        ((4000, 2000), 1000, 2 * MILLION, (1000, 500)),
        ((20_000, 8_000), None, 4 * MILLION, (3162, 1265)),
        ((20_000, 1), None, 10_000, (14142, 1)),
    ],
)
def test_size(original: tuple[int, int], max_side: int | None, max_pixels: int, expected: tuple[int, int]) -> None:
    assert searched_size(original, max_side, max_pixels) == expected


def test_the_photo_itself_and_a_copy_by_bilinear_antialiasing(photo_catalog: Catalog) -> None:
    photo = photo_catalog.decode(2)
    np.testing.assert_array_equal(open_searched(photo_catalog, 2, photo.size), np.asarray(photo))
    size = (photo.width * 3 // 4, photo.height * 3 // 4)
    expected = np.asarray(photo.resize(size, Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(open_searched(photo_catalog, 2, size), expected)


def test_a_much_smaller_copy_comes_from_the_decoder_s_scale(photo_catalog: Catalog) -> None:
    photo = photo_catalog.decode(2)
    small = open_searched(photo_catalog, 2, (photo.width // 4, photo.height // 4))
    exact = np.asarray(photo.resize((photo.width // 4, photo.height // 4), Image.Resampling.BOX))
    assert small.shape == exact.shape
    assert np.abs(small.astype(float) - exact).mean() < 4  # of 255
    assert abs(small.mean() - exact.mean()) < 0.5


def test_a_panorama_is_never_whole_in_memory(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20_000, 2000), "green").save(tmp_path / "photos" / "panorama.jpg")
    (tmp_path / "catalog").mkdir()
    indexing.run(
        out=tmp_path / "catalog", report=Report(), format="folder", root=tmp_path / "photos", annotations=None,
        split=None, list_file=None, min_side=32, max_rejected=0, workers=1,
    )  # fmt: skip
    catalog = Catalog(tmp_path / "catalog", tmp_path / "photos")
    size = searched_size((20_000, 2000), None, MILLION)
    tracemalloc.start()
    searched = open_searched(catalog, 0, size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert searched.shape == (316, 3162, 3)
    assert peak < 20_000_000  # whole it has 120 million bytes


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.data())
def test_rounding_outward_covers_the_box_and_stays_inside(
    width: int, height: int, max_side: int, data: st.DataObject
) -> None:
    searched = searched_size((width, height), max_side, MILLION)
    x0, y0 = (data.draw(st.integers(0, side - 1)) for side in searched)
    x1, y1 = data.draw(st.integers(x0 + 1, searched[0])), data.draw(st.integers(y0 + 1, searched[1]))
    (box,) = to_original(np.array([[x0, y0, x1, y1]]), searched, (width, height)).tolist()
    ratios = np.tile([width, height], 2) / np.tile(searched, 2)
    exact = np.array([x0, y0, x1, y1]) * ratios
    for corner, original, limit, sign in zip(box, exact, (width, height) * 2, (1, 1, -1, -1), strict=True):
        assert 0 <= corner <= limit
        assert -1e-9 <= sign * (original - corner) < 1
    if searched == (width, height):
        assert box == [x0, y0, x1, y1]


def test_a_photo_that_has_changed_is_not_searched(tmp_path: Path, photo_catalog: Catalog) -> None:
    shutil.copytree(photo_catalog.root, tmp_path / "photos")
    catalog = Catalog(photo_catalog.directory, tmp_path / "photos")
    Image.new("RGB", (80, 60)).save(catalog.path(1))
    with pytest.raises(UnreadablePhoto, match=r"it has \(\d+, \d+\) pixels where the catalog promises"):
        open_searched(catalog, 1, (80, 60))
    catalog.path(2).unlink()
    with pytest.raises(UnreadablePhoto, match="no such file"):
        open_searched(catalog, 2, (80, 60))
