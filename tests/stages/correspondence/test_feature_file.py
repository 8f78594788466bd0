"""The feature file takes rows in any order, keeps what is its own, and trusts nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.correspondence.feature_file import FeatureFile
from stages.data.mapped import Mapped

ROWS = np.arange(40, dtype=np.float16).reshape(10, 4)


def read(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features.npy"


def test_rows_in_any_order(path: Path) -> None:
    with FeatureFile(path, 10, 4) as file:
        assert not file.kept
        file.write(7, ROWS[7:])
        file.write(0, ROWS[:3])
        file.sync()
        with FeatureFile(path, 10, 4) as other:  # as another process has it
            assert other.kept
            other.write(3, ROWS[3:7])
    np.testing.assert_array_equal(read(path), ROWS)


def test_zeros_until_written(path: Path) -> None:
    with FeatureFile(path, 10, 4) as file:
        file.write(4, ROWS[4:5])
    assert read(path).dtype == np.float16
    np.testing.assert_array_equal(np.flatnonzero(read(path).any(axis=1)), [4])


@pytest.mark.parametrize("damage", ["shorter", "longer", "other shape", "other type", "no array"])
def test_starts_again_when_anything_is_odd(path: Path, damage: str) -> None:
    with FeatureFile(path, 10, 4) as file:
        file.write(0, ROWS)
    content = path.read_bytes()
    if damage in ("shorter", "longer", "no array"):
        odd = {"shorter": content[:-1], "longer": content + b"\0", "no array": b"\0" * len(content)}
        path.write_bytes(odd[damage])
    else:
        np.save(path, np.ones((4, 10), np.float16) if damage == "other shape" else np.ones((10, 4), np.int16))
    with FeatureFile(path, 10, 4) as file:
        assert not file.kept
    np.testing.assert_array_equal(read(path), np.zeros((10, 4)))


@pytest.mark.parametrize(("first", "rows"), [(8, ROWS[:3]), (-1, ROWS[:1]), (0, ROWS[:, :3])])
def test_rows_that_do_not_fit_are_refused(path: Path, first: int, rows: np.ndarray) -> None:
    with FeatureFile(path, 10, 4) as file, pytest.raises(ValueError, match="do not fit a file of 10 rows of 4"):
        file.write(first, rows)
    np.testing.assert_array_equal(read(path), np.zeros((10, 4)))


@pytest.mark.parametrize("left", [0, 50, 130, 207])
def test_a_truncated_file_is_noticed_where_it_is_read(path: Path, left: int) -> None:
    with FeatureFile(path, 10, 4) as file:
        file.write(0, ROWS)
    assert path.stat().st_size == 208
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"features\.npy is damaged .* --force"):
        _ = Mapped(path).array
