"""BING: OpenCV's boxes in our convention, best first, in silence; and its nine files."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.correspondence.proposals import bing
from stages.data.catalog import Catalog

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photo(photo_catalog: Catalog) -> np.ndarray:
    return np.asarray(photo_catalog.decode(4))


def test_boxes_and_order_are_opencv_s(photo: np.ndarray, shared_data: Path, tmp_path: Path) -> None:
    search = cv2.saliency.ObjectnessBING.create()
    search.setTrainingPath(str(shared_data / "bing"))
    search.setBBResDir(str(tmp_path))
    _, found = search.computeSaliency(photo[:, :, ::-1].copy())
    values = np.array(search.getobjectnessValues())
    best: dict[tuple[int, ...], float] = {}
    for (x0, y0, x1, y1), value in zip(found.reshape(-1, 4).tolist(), values.tolist(), strict=True):
        box = (x0 - 1, y0 - 1, x1, y1)  # OpenCV counts from 1 and includes the last pixel
        best[box] = min(value, best.get(box, np.inf))
    boxes, scores = bing.make(models=shared_data / "bing")(photo, 0, RNG)
    assert {tuple(box): -score for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)} == best
    assert (np.diff(scores) <= 0).all()


def test_boxes_reach_all_borders_and_have_the_sizes_of_the_method(photo: np.ndarray, shared_data: Path) -> None:
    boxes, _ = bing.make(models=shared_data / "bing")(photo, 0, RNG)
    height, width = photo.shape[:2]
    assert boxes.min(axis=0)[:2].tolist() == [0, 0]
    assert boxes.max(axis=0)[2:].tolist() == [width, height]
    inner = boxes[(boxes[:, 2] < width) & (boxes[:, 3] < height)]
    assert set(np.unique(inner[:, 2:] - inner[:, :2]).tolist()) <= {8, 16, 32, 64, 128, 256, width, height}


def test_says_nothing_and_leaves_nothing(
    photo: np.ndarray, shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    print("before")
    bing.make(models=shared_data / "bing")(photo, 0, RNG)
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
    assert not list(tmp_path.iterdir())


def test_missing_models_are_named_with_their_source(tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(ValueError, match=r"set regions\.bing\.models.*ObjNessB2W8I\.idx\.yml\.gz.*opencv_contrib"):
        bing.make(models=None)
    with pytest.raises(FileNotFoundError, match=r"models=.*lacks ObjNessB2W8MAXBGR\.wS1.*nine files.*opencv_contrib"):
        bing.make(models=tmp_path)
    for name in bing.MODEL_FILES[1:]:
        shutil.copy(shared_data / "bing" / name, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=rf"lacks {bing.MODEL_FILES[0]}\. "):
        bing.make(models=tmp_path)
