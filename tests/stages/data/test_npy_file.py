"""A .npy file that grows: NumPy reads what was appended, and nothing of a file that was not finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.data.npy_file import NpyWriter


@pytest.mark.parametrize("row_shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float16, np.uint8])
def test_numpy_reads_what_was_appended(tmp_path: Path, dtype: type[np.generic], row_shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(0).integers(0, 100, (1234, *row_shape))
    with NpyWriter(tmp_path / "a.npy", dtype, row_shape) as file:
        for first, last in ((0, 1), (1, 1), (1, 1000), (1000, 1234)):
            file.append(rows[first:last])
    read = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, rows.astype(dtype))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped[1000:1010], rows[1000:1010].astype(dtype))


def test_an_unfinished_file_holds_no_row(tmp_path: Path) -> None:
    def interrupted() -> None:
        with NpyWriter(tmp_path / "a.npy", np.int32) as file:
            file.append(np.arange(10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(np.load(tmp_path / "a.npy")) == 0


def test_a_former_file_is_overwritten(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000))
    with NpyWriter(tmp_path / "a.npy", np.int32) as file:
        file.append(np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    with NpyWriter(tmp_path / "a.npy", np.int32, (4,)) as file, pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        file.append(np.zeros((2, 3)))
