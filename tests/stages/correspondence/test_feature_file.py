"""The feature file goes on where it was last safe, and trusts nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.correspondence.feature_file import FeatureFile

ROWS = np.arange(40, dtype=np.float16).reshape(10, 4)


def opened(folder: Path, rows: int = 10) -> FeatureFile:
    return FeatureFile(folder / "features.npy", folder / "features.json", rows, 4)


def write(folder: Path, safe: int, unsafe: int) -> None:
    with opened(folder) as file:
        file.append(ROWS[:safe])
        file.checkpoint()
        file.append(ROWS[safe : safe + unsafe])


def finish(folder: Path) -> int:
    with opened(folder) as file:
        first = file.done
        file.append(ROWS[first:])
        file.checkpoint()
    np.testing.assert_array_equal(np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False), ROWS)
    return first


def test_numpy_reads_it(tmp_path: Path) -> None:
    assert finish(tmp_path) == 0


def test_goes_on_after_the_last_safe_row(tmp_path: Path) -> None:
    write(tmp_path, safe=3, unsafe=4)
    assert finish(tmp_path) == 3


def test_a_finished_file_stays(tmp_path: Path) -> None:
    finish(tmp_path)
    assert finish(tmp_path) == 10


@pytest.mark.parametrize("damage", ["shorter", "other header", "no file", "not JSON", "no number", "too many"])
def test_starts_again_when_anything_is_odd(tmp_path: Path, damage: str) -> None:
    write(tmp_path, safe=3, unsafe=0)
    features, progress = tmp_path / "features.npy", tmp_path / "features.json"
    if damage == "shorter":
        features.write_bytes(features.read_bytes()[:-1])
    elif damage == "other header":
        np.save(features, np.zeros((9, 4), np.float16))
    elif damage == "no file":
        features.unlink()
    else:
        values = {"not JSON": "{", "no number": json.dumps({"rows": None}), "too many": json.dumps({"rows": 11})}
        progress.write_text(values[damage])
    assert finish(tmp_path) == 0
