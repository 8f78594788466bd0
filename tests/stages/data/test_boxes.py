"""The boxes on disk: the same in all three files, whatever pieces they came in; read by photo."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.data import boxes as module
from stages.data.boxes import MOST_BOXES, Boxes, BoxesWriter

COUNTS = [3, 1, 4, 1, 5]


def random_boxes(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    low = rng.integers(0, 1000, (count, 2))
    return np.hstack([low, low + rng.integers(1, 1000, (count, 2))]), rng.random(count, dtype=np.float32)


def write(directory: Path, counts: list[int], pieces: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of len(counts) photos, appended in pieces that end after the given photos."""
    corners, scores = random_boxes(sum(counts))
    starts = np.concatenate([[0], np.cumsum(counts)])
    directory.mkdir(exist_ok=True)
    with BoxesWriter(directory) as writer:
        for first, last in zip([0, *pieces], [*pieces, len(counts)], strict=True):
            rows = slice(starts[first], starts[last])
            writer.append(np.array(counts[first:last], np.int64), corners[rows], scores[rows])
    return corners, scores


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, COUNTS, pieces=[2])
    return tmp_path


def test_each_photo_gets_its_boxes(folder: Path) -> None:
    corners, _ = random_boxes(sum(COUNTS))
    boxes = Boxes(folder)
    assert (len(boxes), boxes.images) == (14, 5)
    assert boxes.starts.tolist() == [0, 3, 4, 8, 9, 14]
    np.testing.assert_array_equal(boxes.of(2), corners[4:8])
    np.testing.assert_array_equal(np.concatenate([boxes.of(image) for image in range(5)]), corners)
    assert boxes.corners.dtype == np.int32
    assert boxes.starts.dtype == np.int64


def test_the_table_says_the_same(folder: Path) -> None:
    table, (corners, scores) = pd.read_parquet(folder / "boxes.parquet"), random_boxes(sum(COUNTS))
    assert table.dtypes.astype(str).to_dict() == {
        "image": "int32", "roi": "int16", "x0": "int32", "y0": "int32", "x1": "int32", "y1": "int32",
        "score": "float32",
    }  # fmt: skip
    assert table["image"].tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4]
    assert table["roi"].tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 0, 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(table[["x0", "y0", "x1", "y1"]], corners)
    np.testing.assert_array_equal(table["score"], scores)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 40), st.data())
def test_pieces_make_no_difference(tmp_path: Path, counts: list[int], group: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(counts)))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROW_GROUP", group)
        corners, scores = write(tmp_path / "pieces", counts, cuts)
    write(tmp_path / "whole", counts, [])
    for name in ("corners.npy", "starts.npy"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    pieces, whole = (pd.read_parquet(tmp_path / name / "boxes.parquet") for name in ("pieces", "whole"))
    pd.testing.assert_frame_equal(pieces, whole)
    np.testing.assert_array_equal(whole["score"], scores)
    np.testing.assert_array_equal(whole[["x0", "y0", "x1", "y1"]], corners)


def test_pickles_as_its_path(folder: Path) -> None:
    boxes = Boxes(folder)
    boxes.of(0)
    content = pickle.dumps(boxes)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).corners, boxes.corners)  # noqa: S301 (our own)


def test_too_many_boxes_for_the_table_are_refused(tmp_path: Path) -> None:
    corners, scores = random_boxes(MOST_BOXES + 2)
    with pytest.raises(ValueError, match="32768"), BoxesWriter(tmp_path) as writer:
        writer.append(np.array([len(corners)]), corners, scores)


def test_boxes_of_another_catalog_are_refused(folder: Path) -> None:
    Boxes(folder).check(5)
    with pytest.raises(ValueError, match=r"5 photos where the catalog has 6.*regions again"):
        Boxes(folder).check(6)


def test_damaged_files_are_refused(folder: Path) -> None:
    content = (folder / "corners.npy").read_bytes()
    (folder / "corners.npy").write_bytes(content[:-8])
    with pytest.raises(ValueError, match=r"corners\.npy is damaged.*--force"):
        Boxes(folder).check(5)
    np.save(folder / "corners.npy", np.zeros((3, 4), np.int32))
    with pytest.raises(ValueError, match=r"starts\.npy counts 14 boxes, corners\.npy holds 3.*--force"):
        Boxes(folder).check(5)
