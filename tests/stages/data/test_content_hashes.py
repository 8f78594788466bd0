"""Remembered hashes of file contents: unchanged files are not read again, changed ones always are."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.data import content_hashes as hashing
from stages.data.content_hashes import UNREADABLE, ContentHashes, content_hashes


def _hashes(root: Path, cache: Path) -> list[str]:
    return content_hashes(sorted(root.rglob("*.jpg")), cache, 2)


@pytest.fixture
def old_photos(tmp_path: Path, photos_dir: Path) -> Path:
    root = tmp_path / "old"
    shutil.copytree(photos_dir, root)
    for path in root.rglob("*.jpg"):
        os.utime(path, (10**9, 10**9))
    return root


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read for hashing."""
    names: list[str] = []
    read = hashing.hashlib.file_digest

    def counting(file, algorithm):
        names.append(Path(file.name).name)
        return read(file, algorithm)

    monkeypatch.setattr(hashing.hashlib, "file_digest", counting)
    return names


def test_unchanged_files_are_not_read_again(tmp_path: Path, old_photos: Path, files_read: list[str]) -> None:
    cache = tmp_path / "store" / "hashes.npy"
    first = _hashes(old_photos, cache)
    assert len(files_read) == 8
    assert np.load(cache).shape == (8, 8)
    assert _hashes(old_photos, cache) == first
    assert len(files_read) == 8
    changed = old_photos / "first" / "coffee.jpg"
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert _hashes(old_photos, cache) != first
    assert files_read[8:] == ["coffee.jpg"]
    assert [path.name for path in cache.parent.iterdir()] == ["hashes.npy"]
    _hashes(old_photos, cache)
    assert files_read[8:] == ["coffee.jpg"] * 2  # changed moments ago, so not yet remembered


def test_a_fresh_change_of_the_same_size_and_time_is_seen(tmp_path: Path, old_photos: Path) -> None:
    """A file system may give two changes in one tick the same time: just written files are not remembered."""
    photo, cache = old_photos / "first" / "coffee.jpg", tmp_path / "hashes.npy"
    os.utime(photo)
    first = content_hashes([photo], cache, 1)
    status = photo.stat()
    photo.write_bytes(photo.read_bytes()[::-1])
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_hashes([photo], cache, 1) != first


def test_damaged_cache_is_made_anew(tmp_path: Path, old_photos: Path, files_read: list[str]) -> None:
    cache = tmp_path / "hashes.npy"
    first = _hashes(old_photos, cache)
    cache.write_bytes(cache.read_bytes()[:100])
    assert _hashes(old_photos, cache) == first
    assert len(files_read) == 16
    assert np.load(cache).shape == (8, 8)


def test_cache_serves_several_data_sets(tmp_path: Path, old_photos: Path, files_read: list[str]) -> None:
    cache = tmp_path / "hashes.npy"
    for folder in ("first", "second", "first", "second"):
        _hashes(old_photos / folder, cache)
    assert len(files_read) == 8


def test_an_interruption_keeps_what_was_hashed(tmp_path: Path, old_photos: Path, files_read: list[str]) -> None:
    cache = tmp_path / "hashes.npy"
    photos = sorted(old_photos.rglob("*.jpg"))

    def interrupted() -> None:
        with ContentHashes(cache, 1) as hashes:
            hashes.of(photos[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with ContentHashes(cache, 1) as hashes:
        found = hashes.of(photos)
    assert len(files_read) == 8
    assert [row.tobytes() for row in found] == [hashlib.sha256(path.read_bytes()).digest() for path in photos]


def test_many_files_are_told_apart(tmp_path: Path, files_read: list[str]) -> None:
    cache = tmp_path / "hashes.npy"
    paths = [tmp_path / str(number) for number in range(300)]
    for number, path in enumerate(paths):
        path.write_text(str(number % 250))
        os.utime(path, (10**9, 10**9))
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert content_hashes(paths[:170], cache, 2) == expected[:170]
    assert content_hashes(paths[::-1], cache, 2) == expected[::-1]
    assert content_hashes(paths + paths, cache, 2) == expected + expected
    assert len(files_read) == 300
    assert np.load(cache).shape == (8, 300)
    for path in paths:
        path.unlink()
    assert set(content_hashes(paths, cache, 2)) == {UNREADABLE.hex()}


def test_hashes_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    nothing = UNREADABLE.hex()
    assert content_hashes([tmp_path / "gone", tmp_path / "a", tmp_path], None, 3) == [nothing, abc, nothing]
