"""Each compiled operation by its own formula, and compiling where nothing can be kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import hsv2rgb, rgb2hsv

from stages.data import pixels
from stages.data.decode import decode_pixels
from stages.data.demo_photos import library_photos
from stages.data.render import Photo, render
from stages.data.views import View

ROUNDING = 1e-3  # of float32, in levels


@pytest.fixture(scope="module", params=["rocket", "china"])
def picture(request: pytest.FixtureRequest) -> np.ndarray:
    """(200, 200, 3) uint8."""
    path = next(path for path in library_photos() if path.stem == request.param)
    return np.ascontiguousarray(decode_pixels(path.read_bytes())[100:300, 100:300])


def adjusted(picture: np.ndarray, *steps: tuple[str, float]) -> np.ndarray:
    """(S, S, 3) float32."""
    planes = np.empty((3, *picture.shape[:2]), np.float32)
    numbers = np.array([(pixels.OPERATIONS[name], factor) for name, factor in steps], np.float32).reshape(-1, 2)
    pixels.adjust(picture, numbers, planes)
    return planes.transpose(1, 2, 0)


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114])


def brightness(rgb: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(rgb * factor, 0, 255)


def contrast(rgb: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * rgb + (1 - factor) * luma(rgb).mean(), 0, 255)


def saturation(rgb: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * rgb + (1 - factor) * luma(rgb)[..., None], 0, 255)


def hue(rgb: np.ndarray, turns: float) -> np.ndarray:
    hsv = rgb2hsv(rgb / 255)
    hsv[..., 0] = (hsv[..., 0] + turns) % 1
    return 255 * hsv2rgb(hsv)


def gray(rgb: np.ndarray, _: float) -> np.ndarray:
    return np.repeat(luma(rgb)[..., None], 3, axis=2)


FORMULAS = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue, "gray": gray}


@pytest.mark.parametrize(
    ("name", "factor"),
    [(name, factor) for name in ("brightness", "contrast", "saturation") for factor in (0.0, 0.6, 1.0, 1.8)]
    + [("hue", turns) for turns in (-0.5, -0.2, -0.01, 0.0, 0.03, 0.1, 0.4, 0.5)]
    + [("gray", 0.0)],
)
def test_operation_by_its_formula(picture, name, factor):
    expected = FORMULAS[name](picture.astype(np.float64), factor)
    assert np.abs(adjusted(picture, (name, factor)) - expected).max() < ROUNDING


def test_hue_of_every_corner_of_the_colour_cube():
    """Where two channels are equal, where all are, and full circles."""
    levels = np.array([0, 1, 127, 254, 255], np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    for turns in (-0.5, -1 / 3, -1 / 6, 0.0, 1 / 12, 1 / 6, 1 / 3, 0.5):
        assert np.abs(adjusted(cube, ("hue", turns)) - hue(cube.astype(np.float64), turns)).max() < ROUNDING


def test_operations_apply_in_order_without_rounding_between(picture):
    steps = [("contrast", 0.6), ("hue", 0.1), ("brightness", 1.4), ("saturation", 1.2), ("gray", 0.0)]
    expected = picture.astype(np.float64)
    for name, factor in steps:
        expected = FORMULAS[name](expected, factor)
    assert np.abs(adjusted(picture, *steps) - expected).max() < ROUNDING
    assert np.abs(adjusted(picture, *steps[1::-1]) - adjusted(picture, *steps[:2])).max() > 1


def test_store_rounds_and_solarizes():
    planes = np.array([0, 0.49, 0.51, 127.4, 127.6, 128, 254.4, 255], np.float32).reshape(1, 2, 4).repeat(3, axis=0)
    view = np.empty((3, 2, 4), np.uint8)
    pixels.store(planes, 256, view)
    assert view[2].ravel().tolist() == [0, 0, 1, 127, 128, 128, 254, 255]
    pixels.store(planes, 128, view)
    assert view[2].ravel().tolist() == [0, 0, 1, 127, 127, 127, 1, 0]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_is_gaussian(picture, sigma):
    view = View(0, (0, 0, 200, 200), 200, flip=False, jitter=None, gray=False, blur_sigma=sigma, solarize=False)
    blurred = render({"view": view}, lambda image, reduction: Photo(picture))["view"].permute(1, 2, 0).numpy()
    whole = gaussian_filter(picture.astype(np.float64), (sigma, sigma, 0), mode="mirror", truncate=8)
    assert np.abs(blurred - whole).max() < 1.0  # cut off at 3 sigma; and rounded
    assert np.abs(blurred - whole).mean() < 0.3


# A file that does not exist has no folder for Numba's cache, like an installation that nobody may write to.
READ_ONLY = f"""
import types
pixels = types.ModuleType("pixels")
exec(compile(open({pixels.__file__!r}).read(), "/nowhere/pixels.py", "exec"), pixels.__dict__)
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from stages.data import pixels
"""
HALVES = """
import numpy as np
planes = np.empty((3, 2, 2), np.float32)
pixels.adjust(np.full((2, 2, 3), 100, np.uint8), np.array([[0, 0.5]], np.float32), planes)
assert (planes == 50).all()
"""


@pytest.mark.parametrize("setting", [READ_ONLY, FULL_DISK], ids=["read-only", "full disk"])
def test_compiles_where_nothing_can_be_kept(tmp_path: Path, setting: str):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)} if setting == FULL_DISK else dict(os.environ)
    subprocess.run([sys.executable, "-c", setting + HALVES], check=True, env=environment, timeout=120)
    assert not list(tmp_path.rglob("*.nbc"))
