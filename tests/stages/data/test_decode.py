"""Decoding and inspecting: the picture is right whatever the file looks like; bad files are named for what they are."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.data.decode import PhotoInfo, Rejection, decode, decode_pixels, inspect
from stages.data.demo_photos import library_photos


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of 451 x 300 pixels: sides that no reduction divides."""
    path = tmp_path_factory.mktemp("jpeg") / "chelsea.jpg"
    with Image.open(library_photos()[1]) as photo:
        photo.convert("RGB").save(path, quality=90)
    return path


def _save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def _pixels(path: Path, reduction: int = 1) -> np.ndarray:
    image = decode(path, reduction)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


# ---- colour -----------------------------------------------------------------------------------------------------


def test_plain_jpeg_is_what_pil_gives(jpeg: Path) -> None:
    with Image.open(jpeg) as image:
        np.testing.assert_array_equal(_pixels(jpeg), np.asarray(image.convert("RGB")))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = _save(tmp_path / "deep.png", np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    np.testing.assert_array_equal(_pixels(path)[0, :, 0], [0, 1, 128, 255])


def test_floats_are_scaled_by_their_range(tmp_path: Path) -> None:
    path = _save(tmp_path / "float.tiff", np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    np.testing.assert_array_equal(_pixels(path)[0, :, 0], [0, 128, 255])


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = _save(tmp_path / "rgba.png", np.array([[[9, 9, 9, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], dtype=np.uint8))
    np.testing.assert_array_equal(_pixels(rgba)[0], [[255] * 3, [10, 20, 30], [127] * 3])
    grey_alpha = _save(tmp_path / "la.png", np.array([[[9, 0], [50, 255]]], dtype=np.uint8))
    np.testing.assert_array_equal(_pixels(grey_alpha)[0], [[255] * 3, [50] * 3])


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_array_equal(_pixels(tmp_path / "palette.png")[0], [[255, 255, 255], [0, 200, 0]])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (64, 48), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)  # red ink
    assert (abs(_pixels(tmp_path / "cmyk.jpg") - [255, 0, 0]) <= 6).all()
    assert inspect(tmp_path / "cmyk.jpg", 32) == PhotoInfo(64, 48, (tmp_path / "cmyk.jpg").stat().st_size)


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert (_pixels(tmp_path / "two.gif") == [255, 0, 0]).all()


def test_several_pictures_in_one_jpeg(tmp_path: Path, jpeg: Path) -> None:
    first = decode(jpeg)
    first.save(tmp_path / "stereo.mpo", save_all=True, append_images=[Image.new("RGB", (90, 50))])
    with Image.open(tmp_path / "stereo.mpo") as image:
        assert image.format == "MPO"
    assert abs(_pixels(tmp_path / "stereo.mpo") - np.asarray(first)).mean() < 5
    assert decode(tmp_path / "stereo.mpo", 4).size == (113, 75)


# ---- orientation ------------------------------------------------------------------------------------------------

# What the EXIF standard (CIPA DC-008, tag 274) says of each value, as a map from stored to upright pixels.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[:, ::-1][::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    path = _save(tmp_path / f"photo.{suffix}", stored, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(_pixels(path), UPRIGHT[orientation](stored))
    upright = inspect(path, 1)
    assert isinstance(upright, PhotoInfo)
    assert (upright.width, upright.height) == ((50, 40) if orientation < 5 else (40, 50))


def test_orientation_of_a_scaled_jpeg(tmp_path: Path, jpeg: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    decode(jpeg).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    assert decode(tmp_path / "turned.jpg", 4).size == (75, 113)
    upright = decode(jpeg).transpose(Image.Transpose.ROTATE_270).reduce(4)
    difference = abs(_pixels(tmp_path / "turned.jpg", 4)[:, 2:-2] - np.asarray(upright).astype(int)[:, 2:-2])
    assert difference.mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_metadata_does_not_cost_the_photo(tmp_path: Path, jpeg: Path) -> None:
    decode(jpeg).save(tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(tmp_path / "odd.jpg").size == (451, 300)
    assert isinstance(inspect(tmp_path / "odd.jpg", 32), PhotoInfo)


# ---- reduction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_scaled_decoding_is_close_to_full_decoding_and_box_filter(
    tmp_path: Path, jpeg: Path, reduction: int, subsampling: int
) -> None:
    """Mean absolute difference under 1 of 255 levels, and 99 % of samples within 8."""
    decode(jpeg).save(tmp_path / "photo.jpg", quality=90, subsampling=subsampling)
    whole = np.asarray(decode(tmp_path / "photo.jpg").reduce(reduction)).astype(int)
    scaled = _pixels(tmp_path / "photo.jpg", reduction)
    assert scaled.shape == whole.shape
    difference = abs(scaled - whole)
    assert difference.mean() < 1
    assert np.percentile(difference, 99) <= 8


def test_other_formats_are_box_filtered(tmp_path: Path, jpeg: Path) -> None:
    decode(jpeg).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(_pixels(tmp_path / "photo.png", 4), np.asarray(decode(jpeg).reduce(4)))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    reduction=st.sampled_from([1, 2, 4, 8]),
    orientation=st.sampled_from([1, 3, 6, 8]),
    format=st.sampled_from(["JPEG", "PNG"]),
)
def test_size_is_always_the_ceiling(width: int, height: int, reduction: int, orientation: int, format: str) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.new("RGB", (width, height), "teal").save(file, format, exif=exif)
    image = decode(file, reduction)  # type: ignore[arg-type]  # PIL takes open files as well
    expected = -(-width // reduction), -(-height // reduction)
    assert image.size == (expected if orientation < 5 else expected[::-1])


def test_impossible_reduction(jpeg: Path) -> None:
    with pytest.raises(ValueError, match=r"reduction=3 .*1, 2, 4 or 8"):
        decode(jpeg, 3)


# ---- the fast way -----------------------------------------------------------------------------------------------


def _assert_same_pixels(file: bytes, reduction: int = 1) -> np.ndarray:
    pixels = decode_pixels(file, reduction)
    np.testing.assert_array_equal(pixels, np.asarray(decode(io.BytesIO(file), reduction)))  # type: ignore[arg-type]
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return pixels


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_fast_decoding_of_real_photos_equals_pil(shared_data: Path, reduction: int) -> None:
    for folder in (shared_data / "coco" / "val2017", shared_data / "VOCdevkit" / "VOC2007" / "JPEGImages"):
        for path in sorted(folder.glob("*.jpg"))[:16]:
            _assert_same_pixels(path.read_bytes(), reduction)


VARIANTS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "stored as RGB": {"keep_rgb": True},
    "restart markers": {"restart_marker_blocks": 4},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
}


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_fast_decoding_equals_pil(jpeg: Path, reduction: int, options: dict[str, Any]) -> None:
    file = io.BytesIO()
    decode(jpeg).save(file, **({"format": "JPEG", "quality": 90} | options))
    _assert_same_pixels(file.getvalue(), reduction)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1"])
def test_fast_decoding_of_other_colours_equals_pil(jpeg: Path, mode: str) -> None:
    file = io.BytesIO()
    decode(jpeg).convert(mode).save(file, "TIFF" if mode == "1" else "JPEG")
    _assert_same_pixels(file.getvalue())


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(8, 70),  # fewer pixels PIL cannot reduce by 8 alone
    height=st.integers(8, 70),
    reduction=st.sampled_from([1, 2, 4, 8]),
    orientation=st.sampled_from(sorted(UPRIGHT)),
    subsampling=st.sampled_from([0, 1, 2]),
)
def test_fast_decoding_of_any_size_and_orientation_equals_pil(
    width: int, height: int, reduction: int, orientation: int, subsampling: int
) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    stored = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(stored).save(file, "JPEG", exif=exif, subsampling=subsampling)
    pixels = _assert_same_pixels(file.getvalue(), reduction)
    expected = -(-height // reduction), -(-width // reduction)
    assert pixels.shape[:2] == (expected if orientation < 5 else expected[::-1])


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_fast_decoding_of_a_truncated_file_raises(jpeg: Path, share: float) -> None:
    content = jpeg.read_bytes()
    with pytest.raises(OSError, match="truncated"):
        decode_pixels(content[: int(len(content) * share)])


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 0.999), junk=st.binary(min_size=1, max_size=40))
def test_fast_decoding_accepts_the_damaged_files_that_pil_does(position: float, junk: bytes) -> None:
    """And gives the same pixels of them, so that what the catalog accepted can be trained on."""
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((48, 40)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    start = int(position * len(content))
    content[start : start + len(junk)] = junk
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = np.asarray(decode(io.BytesIO(content)))  # type: ignore[arg-type]
        except Exception as error:
            with pytest.raises(type(error)):
                decode_pixels(bytes(content))
        else:
            np.testing.assert_array_equal(decode_pixels(bytes(content)), expected)


def test_fast_decoding_with_an_impossible_reduction(jpeg: Path) -> None:
    with pytest.raises(ValueError, match=r"reduction=3 .*1, 2, 4 or 8"):
        decode_pixels(jpeg.read_bytes(), 3)


# ---- files that cannot be used ----------------------------------------------------------------------------------


def _kind(path: Path, min_side: int = 32, **limits: int) -> str:
    result = inspect(path, min_side, **limits)
    assert isinstance(result, Rejection), f"{path.name} was accepted: {result}"
    assert result.reason == f"{result.kind}: {result.detail}"
    return result.kind


def test_good_files_misnamed_are_accepted(tmp_path: Path, jpeg: Path) -> None:
    decode(jpeg).save(tmp_path / "really_a_png.jpg", "PNG")
    assert isinstance(inspect(tmp_path / "really_a_png.jpg", 32), PhotoInfo)
    np.testing.assert_array_equal(_pixels(tmp_path / "really_a_png.jpg"), np.asarray(decode(jpeg)))


def test_text_named_jpg(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture, just words\n" * 50)
    assert _kind(tmp_path / "text.jpg") == "not an image"


def test_postscript_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n")
    assert _kind(tmp_path / "page.jpg") == "not an image"


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert _kind(tmp_path / "empty.jpg") == "empty"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(tmp_path: Path, jpeg: Path, share: float, format: str) -> None:
    decode(jpeg).save(tmp_path / "whole", format)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: int(len(content) * share)])
    assert _kind(tmp_path / "cut.jpg") in {"truncated", "corrupt", "not an image"}
    if format in ("JPEG", "PNG"):
        assert _kind(tmp_path / "cut.jpg") == "truncated"


def test_corrupt(tmp_path: Path, jpeg: Path) -> None:
    decode(jpeg).save(tmp_path / "photo.png")
    content = bytearray((tmp_path / "photo.png").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    (tmp_path / "photo.png").write_bytes(content)
    assert _kind(tmp_path / "photo.png") == "corrupt"


def test_too_small_counts_the_shorter_side(tmp_path: Path) -> None:
    path = _save(tmp_path / "strip.png", np.zeros((31, 400, 3), np.uint8))
    rejection = inspect(path, 32)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "too small: 400 x 31 pixels; the shorter side must have at least 32"
    assert isinstance(inspect(path, 31), PhotoInfo)


def _png_header_of(side: int) -> bytes:
    """A PNG of side x side grey pixels that holds next to none of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [15_000, 60_000])  # over the limit; and over the one at which PIL itself raises
def test_bomb_is_told_from_the_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_header_of(side))
    assert _kind(tmp_path / "bomb.png") == "too many pixels"


def test_pixel_limit_is_exact(jpeg: Path) -> None:
    assert isinstance(inspect(jpeg, 32, 451 * 300), PhotoInfo)
    assert _kind(jpeg, max_pixels=451 * 300 - 1) == "too many pixels"


def test_missing_and_folder(tmp_path: Path) -> None:
    assert _kind(tmp_path / "nowhere.jpg") == "missing"
    (tmp_path / "folder.jpg").mkdir()
    assert _kind(tmp_path / "folder.jpg") == "unreadable"
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert _kind(tmp_path / "loop.jpg") == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable(jpeg: Path, tmp_path: Path) -> None:
    (tmp_path / "locked.jpg").write_bytes(jpeg.read_bytes())
    (tmp_path / "locked.jpg").chmod(0)
    assert _kind(tmp_path / "locked.jpg") == "unreadable"


@settings(max_examples=80, deadline=None)
@given(
    position=st.floats(0, 0.999),
    junk=st.binary(min_size=1, max_size=40),
    format=st.sampled_from(["JPEG", "PNG", "GIF"]),
)
def test_inspect_survives_any_damage_and_agrees_with_decode(
    tmp_path_factory: pytest.TempPathFactory, position: float, junk: bytes, format: str
) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((48, 40)).save(file, format)
    content = bytearray(file.getvalue())
    start = int(position * len(content))
    content[start : start + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    result = inspect(path, 1, 10**6)
    if isinstance(result, PhotoInfo):
        assert decode(path).size == (result.width, result.height)
