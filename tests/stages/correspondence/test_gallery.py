"""What people are shown: chosen fairly, self-contained, escaped, and small."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.correspondence import gallery
from stages.correspondence.examples import COLOURS, badge_corners, choose_examples, scaled
from stages.correspondence.gallery import write_gallery
from stages.correspondence.preview import write_preview
from stages.data.catalog import Catalog

METRICS = {
    "pairs": 8, "pairs_per_image_mean": 1.0, "similarity_mean": 0.5, "similarity_median": 0.5, "fallback_share": 0.0,
    "reused_share": 0.0,
}  # fmt: skip


@pytest.fixture
def mined(tmp_path: Path, photo_catalog: Catalog) -> tuple[Path, np.ndarray]:
    """pairs.parquet and neighbors.parquet: photo i has i + 3 pairs, all of one box of the next photo."""
    rows = [
        {"image": image, "neighbor": (image + 1) % 8, "rank": rank, "pair": pair, "roi": pair, "neighbor_roi": 0,
         "similarity": 0.9 - 0.1 * image - 0.001 * pair, "x0": 5 * pair, "y0": 4, "x1": 5 * pair + 60, "y1": 70,
         "neighbor_x0": 10, "neighbor_y0": 20, "neighbor_x1": 90, "neighbor_y1": 120}
        for image in range(8) for rank in range(2) for pair in range(image + 3)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "pairs.parquet")
    neighbors = [
        {"image": image, "rank": rank, "neighbor": (image + 1 + rank) % 8, "similarity": 0.25 + rank}
        for image in range(8) for rank in range(2)
    ]  # fmt: skip
    pd.DataFrame(neighbors).to_parquet(tmp_path / "neighbors.parquet")
    return tmp_path, 0.9 - 0.1 * np.arange(8, dtype=np.float32)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(mined: tuple[Path, np.ndarray], catalog: Catalog, count: int = 5, **settings: object) -> str:
    out, likeness = mined
    write_gallery(out, catalog, out, likeness, settings=settings, metrics=METRICS, count=count)
    return (out / "gallery.html").read_text(encoding="utf-8")


def test_examples_go_from_best_to_worst(mined: tuple[Path, np.ndarray], photo_catalog: Catalog) -> None:
    out, likeness = mined
    examples = choose_examples(out / "pairs.parquet", out / "neighbors.parquet", photo_catalog, likeness[::-1], 3)
    assert [(example.image, example.place) for example in examples] == [(7, 1), (3, 5), (0, 8)]
    assert [example.neighbor for example in examples] == [0, 4, 1]
    assert examples[0].image_similarity == 0.25
    assert len(examples[0].pairs) == len(COLOURS)
    assert examples[0].more == 10 - len(COLOURS)
    assert [pair.neighbor_depth for pair in examples[2].pairs] == [0, 1, 2]
    assert [pair.depth for pair in examples[2].pairs] == [0, 0, 0]
    everything = choose_examples(out / "pairs.parquet", out / "neighbors.parquet", photo_catalog, likeness, 50)
    assert [example.image for example in everything] == list(range(8))


def test_page_is_well_formed_and_needs_no_network(mined: tuple[Path, np.ndarray], photo_catalog: Catalog) -> None:
    text = written(mined, photo_catalog, fraction=0.1)
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert page.tags.count("article") == 5
    assert "http" not in text
    assert "<code>fraction = 0.1</code>" in text
    assert "prefers-color-scheme: dark" in text
    for picture in re.findall(r"url\(data:image/jpeg;base64,([^)]*)\)", text):
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert image.format == "JPEG"


def test_what_was_read_is_escaped(
    mined: tuple[Path, np.ndarray], photo_catalog: Catalog, tmp_path: Path, write_catalog: Callable[..., None]
) -> None:
    images = photo_catalog.images
    names = [f'{image}<script>alert("x")</script>.jpg' for image in images["image"]]
    for image, name in enumerate(names):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(photo_catalog.path(image))
    write_catalog(tmp_path, images.assign(path=names))
    text = written(mined, Catalog(tmp_path, tmp_path), note="<b>&")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "note = &lt;b&gt;&amp;" in text


def test_page_stays_small(
    mined: tuple[Path, np.ndarray], photo_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = len(written(mined, photo_catalog))
    monkeypatch.setattr(gallery, "_MAX_BYTES", 60_000)
    assert len(written(mined, photo_catalog)) < min(large, 60_000 * 1.34 + 60_000)


def test_preview_shows_at_most_six(mined: tuple[Path, np.ndarray], photo_catalog: Catalog) -> None:
    out, likeness = mined
    write_preview(out, photo_catalog, out, likeness)
    with Image.open(out / "preview.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    first = np.array([int(COLOURS[0][at : at + 2], 16) for at in (1, 3, 5)])
    assert (np.abs(drawn.astype(int) - first).max(axis=1) < 12).sum() > 1000


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=8))
def test_badges_never_cover_each_other(corners: list[tuple[int, int]]) -> None:
    boxes = [(float(x), float(y), x + 50.0, y + 50.0) for x, y in corners]
    placed = badge_corners(boxes, 0.7, (250, 250), 20.0)
    for number, (x, y) in enumerate(placed):
        assert 0 <= x <= 230
        assert 0 <= y <= 230
        assert all(max(abs(x - a), abs(y - b)) >= 20 - 1e-5 for a, b in placed[:number])


def test_nested_boxes_stay_boxes() -> None:
    assert scaled((10, 20, 110, 80), 2, 0.5, 4.0) == (13.0, 18.0, 47.0, 32.0)
    for depth in range(8):
        x0, y0, x1, y1 = scaled((10, 20, 30, 80), depth, 0.5, 5.0)
        assert x0 < x1
        assert y0 < y1
