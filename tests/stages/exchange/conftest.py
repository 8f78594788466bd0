"""A small catalog in another order than the official files are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.report import Report


@pytest.fixture(scope="session")
def make_catalog(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Catalog]:
    """The catalog of photos with these names, all of 120 x 100 pixels."""

    def make(*names: str) -> Catalog:
        root, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("catalog")
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (120, 100), (10 * number, 90, 40)).save(path)
        indexing.run(
            out=out, report=Report(), format="folder", root=root, annotations=None, split=None, list_file=None,
            min_side=32, max_rejected=0.0, workers=1,
        )  # fmt: skip
        return Catalog(out, root)

    return make


@pytest.fixture(scope="session")
def four_photos(make_catalog: Callable[..., Catalog]) -> Catalog:
    """Numbered a.jpg 0 (in `train`), b.jpg 1, c.jpg 2, d.jpg 3."""
    return make_catalog("train/a.jpg", "train/b.jpg", "train/c.jpg", "train/d.jpg")


@pytest.fixture
def official(tmp_path: Path) -> dict[str, Path]:
    """Official files of those photos, written by hand. Their order is c, a, d, b: places 0, 1, 2, 3."""
    head = '"images": {"file_name": ["c.jpg", "a.jpg", "d.jpg", "b.jpg"], "id": [30, 10, 40, 20]}'
    knn = '"image_id": [30, 10, 40, 20], "knn_image_id": [[1, 2], [2, 0], [3, 1], [0, 2]]'
    boxes = """[
        [[0, 0, 60, 50], [20, 20, 100, 80]],
        [[10, 5, 40, 40]],
        [[0, 0, 120, 100], [30, 30, 40, 60], [80, 10, 40, 40]],
        [[5, 5, 50, 90]]]"""
    pairs = """[
        [[[0, 0, 60, 50, 10, 5, 40, 40], [20, 20, 100, 80, 10, 5, 40, 40]], [[20, 20, 100, 80, 80, 10, 40, 40]]],
        [[[10, 5, 40, 40, 0, 0, 120, 100]], [[10, 5, 40, 40, 20, 20, 100, 80]]],
        [[[80, 10, 40, 40, 5, 5, 50, 90]], [[30, 30, 40, 60, 10, 5, 40, 40]]],
        [[[5, 5, 50, 90, 0, 0, 60, 50]], [[5, 5, 50, 90, 30, 30, 40, 60]]]]"""
    content = {
        "neighbors": f'{{"info": {{"knn_image_num": 2}}, {head}, "pseudo_annotations": {{{knn}}}}}',
        # As the official code writes it: not filtered, and of a photo with one box that box alone.
        "proposals": '{"bbox": [[[0, 0, 60, 50], [1, 1, 59, 49], [2, 2, 5, 5], [20, 20, 100, 80]], [10, 5, 40, 40], '
        "[[0, 0, 120, 100], [30, 30, 40, 60], [80, 10, 40, 40]], [[0, 0, 3, 3]]]}",
        "correspondence": f'{{"info": {{"knn_image_num": 2, "knn_bbox_pair_ratio": 0.1}}, {head}, '
        f'"pseudo_annotations": {{{knn}, "bbox": {boxes}, "knn_bbox_pair": {pairs}}}}}',
    }
    paths = {name: tmp_path / f"{name}.json" for name in content}
    for name, text in content.items():
        paths[name].write_text(text)
    return paths
