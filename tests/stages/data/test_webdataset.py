"""Photos in tar archives: found, reached at random, and nothing else of this machine reached by them."""

from __future__ import annotations

import copy
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.data import archives, indexing
from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.data.unreadable import UnreadablePhoto
from stages.report import Report

Member = tuple[str, bytes]


def write_tar(path: Path, members: list[Member | tarfile.TarInfo], format: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.fixture(scope="module")
def jpegs(photos_dir: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(photos_dir.rglob("*.jpg"))]


@pytest.fixture
def index(tmp_path: Path) -> Callable[..., tuple[Catalog, Report]]:
    def make(root: Path, **changes: Any) -> tuple[Catalog, Report]:
        out, report = tmp_path / "catalog", Report()
        out.mkdir()
        settings = {"format": "webdataset", "min_side": 32, "max_rejected": 0.9, "workers": 1}
        indexing.run(out=out, report=report, root=root, **settings | changes)
        return Catalog(out, root), report

    return make


def rejected(catalog: Catalog) -> dict[str, str]:
    return dict(pd.read_parquet(catalog.directory / "rejected.parquet").to_numpy().tolist())


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_photos_and_their_classes(tmp_path: Path, jpegs: list[bytes], index: Callable, format: int) -> None:
    root, long = tmp_path / "root", "a" * 99 + "/" + "b" * 90
    write_tar(root / "b" / "0.tar", [("x/7.cls", b"10"), ("x/7.jpg", jpegs[0]), ("x/8.jpg", jpegs[1])], format)
    write_tar(root / "a.tar", [(f"{long}.seg.PNG", jpegs[2]), (f"{long}.json", b"{}"), (f"{long}.cls", b"9\n")], format)
    (root / "notes.txt").touch()
    catalog, report = index(root)
    names = [f"a.tar/{long}.seg.PNG", "b/0.tar/x/7.jpg", "b/0.tar/x/8.jpg"]
    assert catalog.images["path"].tolist() == [catalog.name(image) for image in range(3)] == names
    assert catalog.path(1) == root / "b" / "0.tar"
    order = [2, 0, 1]
    for image, content in enumerate(order):
        assert catalog.read(image) == jpegs[content]
        assert np.array_equal(catalog.pixels(image), np.asarray(catalog.decode(image)))
        with catalog.path(image).open("rb") as file:
            file.seek(catalog.images["offset"][image])
            assert file.read(catalog.images["bytes"][image]) == jpegs[content]
    assert catalog.categories == ["9", "10"]
    assert catalog.classes is not None
    assert catalog.classes.tolist() == [0, 1, -1]
    assert catalog.images["class"].tolist()[:2] == ["9", "10"]
    assert not catalog.has_labels
    assert (report.metrics["images"], report.metrics["classes"], report.metrics["ignored_files"]) == (3, 2, 1)
    assert copy.copy(catalog).read(2) == jpegs[1]


def test_archives_without_classes_have_none(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    write_tar(tmp_path / "root" / "0.tar", [("1.jpg", jpegs[0])])
    catalog, _ = index(tmp_path / "root")
    assert catalog.classes is None
    assert not (catalog.directory / "categories.json").exists()


def test_workers_make_the_same_catalog(
    tmp_path: Path, jpegs: list[bytes], index: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    for shard in range(3):
        write_tar(tmp_path / "root" / f"{shard}.tar", [(f"{n}.jpg", jpegs[n]) for n in range(shard, 8, 3)])
    index(tmp_path / "root")[0].directory.rename(tmp_path / "one")
    catalog, _ = index(tmp_path / "root", workers=2)
    for path in (tmp_path / "one").glob("*.*"):
        assert path.read_bytes() == (catalog.directory / path.name).read_bytes(), path.name


def test_a_pattern_chooses_archives(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    for name in ("train-0.tar", "val-0.tar"):
        write_tar(tmp_path / "root" / name, [("1.jpg", jpegs[0])])
    assert index(tmp_path / "root", split="train-*.tar")[0].name(0) == "train-0.tar/1.jpg"
    with pytest.raises(ValueError, match=r"no images in .*ending in \.tar .*Set dataset\.root to a folder of tar"):
        indexing.run(out=tmp_path / "catalog", report=Report(), root=tmp_path / "root", format="webdataset",
                     split="test-*", min_side=32, max_rejected=0.9, workers=1)  # fmt: skip


def test_no_name_and_no_link_leads_anywhere(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpegs[0])
    link, hard = tarfile.TarInfo("link.jpg"), tarfile.TarInfo("hard.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    hard.type, hard.linkname = tarfile.LNKTYPE, "good.jpg"
    folder = tarfile.TarInfo("folder.jpg")
    folder.type = tarfile.DIRTYPE
    outside = ["../secret.jpg", "a/../../secret.jpg", str(secret), "caf\udce9.jpg"]
    members: list[Member | tarfile.TarInfo] = [(name, jpegs[1]) for name in outside]
    write_tar(tmp_path / "root" / "0.tar", [*members, link, hard, folder, ("good.jpg", jpegs[2])], tarfile.GNU_FORMAT)
    before = sorted(tmp_path.rglob("*"))
    catalog, report = index(tmp_path / "root")
    assert catalog.images["path"].tolist() == ["0.tar/good.jpg"]
    assert report.metrics["rejected_by_kind"] == {"unsafe name": 4}
    made = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(catalog.directory) for path in made)


def test_repeated_names_and_bad_photos_are_named(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    members = [("1.jpg", jpegs[0]), ("./1.jpg", jpegs[1]), ("2.jpg", b""), ("3.jpg", jpegs[3][:4000]), ("4.jpg", b"x")]
    write_tar(tmp_path / "root" / "0.tar", members)
    write_tar(tmp_path / "root" / "1.tar", [("1.jpg", jpegs[1])])
    write_tar(tmp_path / "root" / "2.tar", [("a.heic", jpegs[1])])
    catalog, report = index(tmp_path / "root")
    assert catalog.images["path"].tolist() == ["0.tar/1.jpg", "1.tar/1.jpg"]
    assert catalog.read(0) == jpegs[0]
    kinds = ["empty", "no photos", "not an image", "repeated name", "truncated"]
    assert report.metrics["rejected_by_kind"] == dict.fromkeys(kinds, 1)
    assert rejected(catalog)["2.tar"].startswith("no photos: none of its files ends in")


@pytest.mark.parametrize(
    "harm", ["cut in a photo", "cut in a header", "a header overwritten", "a hole", "another archive appended"]
)
def test_a_damaged_archive_gives_what_comes_before(
    tmp_path: Path, jpegs: list[bytes], index: Callable, harm: str
) -> None:
    path = write_tar(tmp_path / "root" / "0.tar", [("1.jpg", jpegs[0]), ("2.jpg", jpegs[1]), ("3.jpg", jpegs[2])])
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1]
    content = bytearray(path.read_bytes())
    if harm == "cut in a photo":
        del content[second.offset_data + 100 :]
    elif harm == "cut in a header":
        del content[second.offset + 100 :]
    elif harm == "a header overwritten":
        content[second.offset : second.offset + 512] = os.urandom(512)
    elif harm == "a hole":
        content[second.offset : second.offset + 1024] = bytes(1024)
    else:
        content[second.offset :] = bytes(1024) + content
    path.write_bytes(content)
    catalog, _ = index(tmp_path / "root")
    assert catalog.images["path"].tolist() == ["0.tar/1.jpg"]
    assert rejected(catalog)["0.tar"].startswith("damaged archive: it ")
    assert "Download it again" in rejected(catalog)["0.tar"]


def test_what_is_no_archive(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    root = tmp_path / "root"
    write_tar(root / "good.tar", [("1.jpg", jpegs[0])])
    (root / "disguised.tar").write_bytes(gzip.compress((root / "good.tar").read_bytes()))
    (root / "empty.tar").touch()
    catalog, _ = index(root)
    assert len(catalog) == 1
    assert set(rejected(catalog)) == {"disguised.tar", "empty.tar"}


@pytest.mark.parametrize("name", ["1.tar.gz", "1.tgz", "1.tar.zst"])
def test_compressed_archives_are_refused(tmp_path: Path, jpegs: list[bytes], index: Callable, name: str) -> None:
    write_tar(tmp_path / "root" / "0.tar", [("1.jpg", jpegs[0])])
    (tmp_path / "root" / name).touch()
    with pytest.raises(ValueError, match=rf"1 of the shards .* compressed, {name} for one.*gunzip"):
        index(tmp_path / "root")


def test_a_folder_named_like_an_archive_is_refused(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    write_tar(tmp_path / "root" / "x.tar" / "0.tar", [("1.jpg", jpegs[0])])
    with pytest.raises(ValueError, match=r"root/x\.tar is a folder that is named like an archive"):
        index(tmp_path / "root")


def test_an_archive_that_changed_since_says_so(tmp_path: Path, jpegs: list[bytes], index: Callable) -> None:
    path = write_tar(tmp_path / "root" / "0.tar", [("1.jpg", jpegs[0]), ("2.jpg", jpegs[1])])
    catalog, _ = index(tmp_path / "root")
    before = indexing.fingerprint(cache=None, workers=1, format="webdataset", root=tmp_path / "root")
    photos = Photos(catalog)
    assert photos.open(1).pixels.shape == np.asarray(catalog.decode(1)).shape
    os.truncate(path, catalog.images["offset"][1] + 50)
    photos.open(0)
    with pytest.raises(UnreadablePhoto, match=r"0\.tar/2\.jpg could be used .* no longer can: truncated"):
        photos.open(1)
    path.unlink()
    with pytest.raises(UnreadablePhoto, match="missing: no such file"):
        photos.decode(0)
    write_tar(path, [("1.jpg", jpegs[0]), ("2.jpg", jpegs[2])])
    assert indexing.fingerprint(cache=None, workers=1, format="webdataset", root=tmp_path / "root") != before


def test_reading_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"abcdef")
    assert archives.read_member(tmp_path / "0.tar", 1, 3) == b"bcd"
    with pytest.raises(OSError, match="ends 2 bytes before the photo at byte 4"):
        archives.read_member(tmp_path / "0.tar", 4, 4)
