"""Rows of a mapped file: the right ones, and not all of them in memory."""

from __future__ import annotations

import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from stages.data.rows import Rows, forget


def mapped_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_only_so_much_stays_mapped_and_what_was_read_stays_valid(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(2**23, dtype=np.int64).reshape(-1, 64))  # 64 MB
    rows = Rows(tmp_path / "rows.npy", most_mapped=2**22)
    before, first = mapped_bytes(), rows.block(0, 1000)
    assert sum(int(rows.block(at, at + 1024).sum()) for at in range(0, 2**17, 1024)) == 2**22 * (2**23 - 1)
    assert mapped_bytes() - before < 2**24
    forget(rows.array)
    np.testing.assert_array_equal(first, np.arange(64_000).reshape(-1, 64))


def test_pickles_as_its_path(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((1000, 64)))
    rows = Rows(tmp_path / "rows.npy")
    state = ForkingPickler.dumps(rows)
    assert len(state) < 1000
    assert ForkingPickler.loads(state).block(3, 5).shape == (2, 64)


def test_a_truncated_file_names_the_remedy(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((1000, 64)))
    (tmp_path / "rows.npy").write_bytes((tmp_path / "rows.npy").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"rows.npy is damaged .* --force"):
        Rows(tmp_path / "rows.npy").block(0, 1)
