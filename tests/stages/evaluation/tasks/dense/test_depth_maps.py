from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.tasks.dense.depth_maps import DepthMaps

FRAME = np.zeros((10, 14, 3), np.uint8)


@pytest.fixture
def frames(make_photos):
    return make_photos({"kitchen/a.jpg": FRAME, "kitchen/b.jpg": FRAME})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "depth" / "kitchen").mkdir(parents=True)
    return tmp_path / "depth"


def test_16_bit_pictures(frames, folder):
    millimetres = np.random.default_rng(0).integers(1, 65536, (2, 10, 14)).astype(np.uint16)
    millimetres[1, 0, 0] = 0
    for name, each in zip("ab", millimetres, strict=True):
        Image.fromarray(each).save(folder / "kitchen" / f"{name}.png")
    maps = pickle.loads(pickle.dumps(DepthMaps(frames, folder, scale=1000)))  # noqa: S301 - our own
    for image, each in enumerate(millimetres):
        np.testing.assert_allclose(maps[image], each / 1000, rtol=1e-6)
    assert maps[1].dtype == np.float32


def test_arrays_of_metres_with_holes(frames, folder):
    metres = np.full((10, 14), 2.5)
    metres[0, :3] = np.nan, -1, np.inf
    for name in "ab":
        np.save(folder / "kitchen" / f"{name}.npy", metres)
    depth = DepthMaps(frames, folder, scale=1000)[0]
    assert depth[0, :4].tolist() == [0, 0, 0, 2.5]


def test_what_does_not_fit_is_named(frames, folder):
    with pytest.raises(FileNotFoundError, match=r"2 of 2 photos have no depth map .*nyu_depth_v2_labeled.mat"):
        DepthMaps(frames, folder, scale=1000)
    with pytest.raises(FileNotFoundError, match="is no folder of depth maps"):
        DepthMaps(frames, folder / "nowhere", scale=1000)
    with pytest.raises(ValueError, match="depth_scale=0"):
        DepthMaps(frames, folder, scale=0)
    for name, shape in (("a", (14, 10)), ("b", (10, 14))):
        np.save(folder / "kitchen" / f"{name}.npy", np.ones(shape, np.int64))
    maps = DepthMaps(frames, folder, scale=1000)
    with pytest.raises(ValueError, match=r"of shape \(14, 10\) where its photo asks for floats"):
        maps[0]
    with pytest.raises(ValueError, match="is int64"):
        maps[1]


def test_eight_bits_are_no_depth(frames, folder):
    for name in "ab":
        Image.fromarray(np.ones((10, 14), np.uint8)).save(folder / "kitchen" / f"{name}.png")
    with pytest.raises(ValueError, match="one channel of 16 bits"):
        DepthMaps(frames, folder, scale=1000)[0]
