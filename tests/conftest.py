"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from stages.data.catalog import Catalog

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Labelled photos (VOC2007 and COCO subsets) that lie beside the checkout of a developer, but not at a user's."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the labelled photos in ../shared/data, which are not part of the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def photos_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photographs that come with scikit-image and scikit-learn, longer side 256, in two folders."""
    from stages.data.demo_photos import library_photos

    root = tmp_path_factory.mktemp("photos")
    for number, source in enumerate(library_photos()):
        with Image.open(source) as photo:
            small = photo.convert("RGB")
        small.thumbnail((256, 256))
        folder = root / ("first" if number < 4 else "second")
        folder.mkdir(exist_ok=True)
        small.save(folder / f"{source.stem}.jpg", quality=92)
    return root


@pytest.fixture(scope="session")
def write_catalog() -> Callable[[Path, pd.DataFrame], None]:
    """Writes the photos of a catalog into a directory: path, width, height, and where given bytes and sha256 (hex)."""
    from stages.data.catalog_writer import PHOTO, CatalogWriter

    def write(directory: Path, images: pd.DataFrame) -> None:
        known = images.assign(offset=-1, **{"class": None})
        sha256 = known.get("sha256", pd.Series(["00" * 32] * len(known)))
        columns = known.assign(bytes=known.get("bytes", 1), sha256=[bytes.fromhex(each) for each in sha256])
        with CatalogWriter(directory) as writer:
            writer.add(pa.RecordBatch.from_pandas(columns[PHOTO.names], schema=PHOTO, preserve_index=False))

    return write


@pytest.fixture(scope="session")
def photo_catalog(photos_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The catalog of `photos_dir`."""
    from stages.data import indexing
    from stages.report import Report

    out = tmp_path_factory.mktemp("catalog")
    indexing.run(
        out=out, report=Report(), format="folder", root=photos_dir, annotations=None, split=None, list_file=None,
        min_side=32, max_rejected=0.5, workers=1,
    )  # fmt: skip
    return Catalog(out, photos_dir)
