"""Reading a photo from its file: always upright, always 8-bit RGB; and saying why a file cannot be used."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

# What PIL may open here. Its other plugins are left out because no photo needs them and some are unsafe on files of
# unknown origin (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
REDUCTIONS = (1, 2, 4, 8)

# Photos of more pixels are rejected from their header (a "decompression bomb": small file, enormous picture). Stitched
# panoramas aside, no camera makes one. PIL would warn from half as many on, in every process that opens the photo.
MAX_PIXELS = 180_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# Larger files are rejected before they are read: those many pixels, uncompressed, of four channels of 16 bits, fit.
MAX_BYTES = 2**31

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PhotoInfo:
    """A usable photo: size in pixels once upright, and size of its file."""

    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class Rejection:
    """Why a file cannot be used: `kind` is one of a few words to count by, `detail` is for people."""

    kind: str
    detail: str

    @property
    def reason(self) -> str:
        return f"{self.kind}: {self.detail}"


def decode(file: Path | BinaryIO, reduction: int = 1) -> Image.Image:
    """The photo in `file` as an upright RGB image (uint8), its EXIF orientation applied.

    Transparency is laid over white, as a browser shows it: the colours beneath transparent pixels are arbitrary, so
    just dropping alpha would bring up garbage. Samples of more than 8 bits are scaled, not clipped. Of an animation or
    a multi-picture file, the first picture.

    Args:
        file: its path, or itself. Its content decides what it is, not its name.
        reduction: 1, 2, 4 or 8. The result has size ceil(width / reduction) x ceil(height / reduction). JPEGs are then
            decoded at that scale by libjpeg, which is cheaper; other formats are decoded whole and box-filtered. The
            two agree closely, not exactly; `reduction=1` is the plain decoder. Where a side is no multiple of
            `reduction`, the last column or row covers fewer pixels (for a JPEG whose EXIF orientation mirrors that
            side, the first one).

    Raises:
        OSError, ValueError, SyntaxError: the file cannot be read or decoded. `inspect` says beforehand which can.
    """
    _check(reduction)
    with Image.open(file, formats=FORMATS) as image:
        return _upright_rgb(image, reduction)


def decode_pixels(file: bytes, reduction: int = 1) -> np.ndarray:
    """The pixels that `decode` gives of a file with this content, (H, W, 3) uint8, faster where it is a usual JPEG.

    A JPEG goes straight to libjpeg-turbo, by which PIL decodes it too. Everything else is left to PIL, also what is
    damaged but not beyond repair. The array is contiguous and may be written to.

    Raises:
        OSError, ValueError, SyntaxError: the content cannot be decoded.
    """
    _check(reduction)
    try:
        pixels = _jpeg_pixels(file, reduction)
    except ValueError:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            return np.array(_upright_rgb(image, reduction))
    transpose = _UPRIGHT.get(_jpeg_orientation(file))
    return pixels if transpose is None else np.array(Image.fromarray(pixels).transpose(transpose))


def inspect(path: Path, min_side: int, max_pixels: int = MAX_PIXELS) -> PhotoInfo | Rejection:
    """Reads and decodes `path` once, whole, and says whether it is usable; never raises because of what is in the file.

    Args:
        min_side: photos whose shorter side has fewer pixels are rejected.
        max_pixels: photos of more pixels are rejected before anything is decoded.
    """
    content = read(path)
    return content if isinstance(content, Rejection) else inspect_content(content, min_side, max_pixels)


def read(path: Path) -> bytes | Rejection:
    """The content of a file, or why it can't be read."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            return Rejection("unreadable", "not a regular file")
        return path.read_bytes() if size <= MAX_BYTES else too_many_bytes(size)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return rejection(error)


def inspect_content(content: bytes, min_side: int, max_pixels: int = MAX_PIXELS) -> PhotoInfo | Rejection:
    """`inspect` for a file with this content."""
    if not content:
        return Rejection("empty", "zero bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of odd metadata and of many pixels; neither is a reason here
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    return _too_many_pixels(f"{image.width} x {image.height} pixels", max_pixels)
                width, height = _upright_rgb(image, 1).size
    except Image.DecompressionBombError:
        return _too_many_pixels("far more pixels", max_pixels)
    except UnidentifiedImageError:
        return Rejection("not an image", f"the content is none of {', '.join(FORMATS)}")
    except Exception as error:  # a damaged file may raise nearly anything inside PIL's decoders
        return rejection(error)
    if min(width, height) < min_side:
        return Rejection("too small", f"{width} x {height} pixels; the shorter side must have at least {min_side}")
    return PhotoInfo(width, height, len(content))


def rejection(error: Exception) -> Rejection:
    """What an error of reading or decoding means."""
    if isinstance(error, FileNotFoundError):
        return Rejection("missing", "no such file")
    if isinstance(error, OSError) and error.errno is not None:  # from the system; PIL's own carry no number
        return Rejection("unreadable", os.strerror(error.errno))
    if "truncated" in str(error).lower():
        return Rejection("truncated", "the file ends before the picture does")
    return Rejection("corrupt", f"{type(error).__name__}: {error}"[:200])


def too_many_bytes(size: int) -> Rejection:
    return Rejection("too large", f"{size:,} bytes; at most {MAX_BYTES:,} are read")


def _check(reduction: int) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction} is not possible: libjpeg scales by 1, 2, 4 or 8. Pass one of these.")


def _jpeg_pixels(file: bytes, reduction: int) -> np.ndarray:
    """The pixels of a JPEG as they are stored. ValueError: for PIL to decode, or to say what is wrong."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(file)
    if width * height > MAX_PIXELS or colours not in ("YCbCr", "RGB", "Gray"):
        raise ValueError(f"{width} x {height} pixels of {colours}")
    # The smallest scale that still gives these sides, which is 1 / reduction.
    smallest = {"min_width": -(-width // reduction), "min_height": -(-height // reduction)} if reduction > 1 else {}
    return simplejpeg.decode_jpeg(file, strict=True, **smallest)  # strict: raises over what libjpeg can mend, too


def _jpeg_orientation(file: bytes) -> int:
    position = 2
    while file[position : position + 1] == b"\xff":
        marker = file[position + 1]
        if marker == 0xDA:  # the picture itself starts, and no APP1 came before, the segment of EXIF and XMP
            return 1
        if marker in (0xE1, 0xFF):  # APP1; or padding, which is rare
            break
        position += 2 + int.from_bytes(file[position + 2 : position + 4])
    with Image.open(io.BytesIO(file), formats=FORMATS) as image:
        return _orientation(image)


def _too_many_pixels(found: str, max_pixels: int) -> Rejection:
    return Rejection("too many pixels", f"{found}; at most {max_pixels:,} are decoded (a decompression bomb?)")


def _upright_rgb(image: Image.Image, reduction: int) -> Image.Image:
    remaining = reduction // _decode_scaled(image, reduction)
    image.load()
    transpose = _UPRIGHT.get(_orientation(image))
    image = _rgb(image)
    if transpose is not None:
        image = image.transpose(transpose)
    return image.reduce(remaining) if remaining > 1 else image


def _decode_scaled(image: Image.Image, reduction: int) -> int:
    """Asks the decoder for a smaller picture; returns the scale that it will really use: 1 unless it is a JPEG."""
    if reduction == 1 or image.format not in ("JPEG", "MPO"):
        return 1
    width, height = image.size
    drafted = image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
    return 1 if drafted is None else round(width / drafted[1][2])


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata raises nearly anything; the picture itself may still be whole
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(colours)
    # convert() copies an RGB picture too, so that what leaves here is a plain image and not tied to its file.
    return image.convert("RGB")


def _eight_bits(samples: np.ndarray) -> np.ndarray:
    """(H, W) of 16 bits, 32 bits or floats -> uint8: whole numbers of 16 bits by that range, others by their own."""
    samples = np.nan_to_num(samples.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = 0.0, 65535.0
    if samples.min() < low or samples.max() > high or not np.equal(np.mod(samples, 1), 0).all():
        low, high = samples.min(), samples.max()
    return np.rint((samples - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
