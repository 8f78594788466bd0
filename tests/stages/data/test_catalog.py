"""Reading photos and labels through a catalog, by need and not as a whole."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stages.data.catalog import Catalog
from stages.data.formats import Labels
from stages.data.formats.listing import object_table
from stages.data.label_table import ROW_GROUP
from stages.data.label_writer import LabelWriter


@pytest.mark.parametrize("reduction", [1, 4])
def test_pixels_are_those_of_decode(photo_catalog: Catalog, reduction: int):
    for image in range(len(photo_catalog)):
        pixels = photo_catalog.pixels(image, reduction)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, np.asarray(photo_catalog.decode(image, reduction)))


def test_arrays_say_what_the_table_says(photo_catalog: Catalog):
    table = photo_catalog.images
    assert table[["width", "height"]].to_numpy().tolist() == photo_catalog.sizes.tolist()
    for image in range(len(photo_catalog)):
        assert photo_catalog.name(image) == table["path"][image]
        assert photo_catalog.path(image) == photo_catalog.root / table["path"][image]
        content = photo_catalog.read(image)
        assert content == photo_catalog.path(image).read_bytes()
        assert photo_catalog.sha256(image) == table["sha256"][image] == hashlib.sha256(content).hexdigest()


def test_numbers_of_numpy_are_taken(photo_catalog: Catalog):
    image = np.int64(3)
    assert photo_catalog.path(image) == photo_catalog.path(3)
    assert photo_catalog.sha256(image) == photo_catalog.sha256(3)
    with pytest.raises(IndexError, match="no string 8: there are 8"):
        photo_catalog.path(8)


def test_pickles_as_paths(photo_catalog: Catalog):
    _ = photo_catalog.images, photo_catalog.sizes, photo_catalog.path(0)
    assert len(bytes(ForkingPickler.dumps(photo_catalog))) < 1000
    again = copy.copy(photo_catalog)
    assert again.read(2) == photo_catalog.read(2)


@pytest.fixture
def crowded(tmp_path: Path, write_catalog: Callable[[Path, pd.DataFrame], None]) -> Catalog:
    """3000 photos of 0 to 19 objects, every third row group holding one photo of many."""
    rng = np.random.default_rng(0)
    images = 3000
    write_catalog(tmp_path, pd.DataFrame({"path": [f"{n}.jpg" for n in range(images)], "width": 100, "height": 100}))
    counts = rng.integers(0, 20, images)
    counts[[500, 501, 2999]] = ROW_GROUP
    image = np.repeat(np.arange(images), counts)
    x0 = rng.uniform(0, 50, len(image))
    rows = [(i, 0, x, 0, x + 10, 10, False, False, "[]") for i, x in zip(image.tolist(), x0.tolist(), strict=True)]
    sizes = np.full((images, 2), 100)
    with LabelWriter(tmp_path / "labels.parquet", []) as writer:
        writer.add(Labels(["thing"], object_table(rows), sizes), np.full(images, True), 0, sizes)
    return Catalog(tmp_path, tmp_path)


@pytest.mark.parametrize(("first", "last"), [(0, 3000), (0, 1), (499, 503), (1000, 1256), (2999, 3000), (7, 7)])
def test_labels_of_some_photos(crowded: Catalog, first: int, last: int):
    whole = crowded.labels
    expected = whole[(whole["image"] >= first) & (whole["image"] < last)].reset_index(drop=True)
    pd.testing.assert_frame_equal(crowded.labels_of(first, last), expected)
    pd.testing.assert_frame_equal(crowded.labels_of(first, last, ["x1", "category"]), expected[["x1", "category"]])


def test_labels_of_few_photos_read_little_of_the_file(crowded: Catalog, monkeypatch: pytest.MonkeyPatch):
    groups: list[int] = []
    read = pq.ParquetFile.read_row_groups

    def counting(self: pq.ParquetFile, chosen: list[int], *args, **settings):
        groups.extend(chosen)
        return read(self, chosen, *args, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counting)
    assert len(pq.ParquetFile(crowded.directory / "labels.parquet").metadata.to_dict()["row_groups"]) >= 6
    crowded.labels_of(1000, 1256)
    assert len(groups) <= 2


def test_no_labels_no_objects(photo_catalog: Catalog):
    for ask in (lambda: photo_catalog.labels, lambda: photo_catalog.labels_of(0, 1)):
        with pytest.raises(ValueError, match="has no labels"):
            ask()
    assert photo_catalog.classes is None


def test_a_damaged_file_says_what_to_do(tmp_path: Path, write_catalog: Callable[[Path, pd.DataFrame], None]):
    write_catalog(tmp_path, pd.DataFrame({"path": ["a.jpg"], "width": 100, "height": 100}))
    os.truncate(tmp_path / "sizes.npy", 100)
    with pytest.raises(ValueError, match=r"sizes\.npy is damaged .*--force"):
        len(Catalog(tmp_path, tmp_path))


def test_opening_a_large_catalog_reads_none_of_it(tmp_path: Path, write_catalog: Callable[[Path, pd.DataFrame], None]):
    """In a process of its own, by the memory that it alone has: a data frame of these photos would take 80 MB.

    Mapped pages do not count: they are the file's, shared by all processes, and the system's to take back.
    """
    images = 200_000
    names = [f"train2017/{number % 1000:04d}/{number:040d}.jpg" for number in range(images)]
    write_catalog(tmp_path, pd.DataFrame({"path": names, "width": 640, "height": 480}))
    script = """
        import sys
        from pathlib import Path
        from stages.data.catalog import Catalog
        from stages.data.photos import Photos

        def kilobytes() -> int:
            return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0])

        before = kilobytes()
        catalog = Catalog(Path(sys.argv[1]), Path("/photos"))
        Photos(catalog)
        for image in range(0, len(catalog), len(catalog) // 50):
            catalog.path(image), catalog.sha256(image), catalog.sizes[image].tolist()
        print(len(catalog), catalog.name(123_456), kilobytes() - before)
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc, which only Linux has")
    made = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], cwd=Path(__file__).parents[3],
                          capture_output=True, text=True, check=True)  # fmt: skip
    count, name, grown = made.stdout.split()
    assert (int(count), name) == (images, names[123_456])
    assert int(grown) < 5000
