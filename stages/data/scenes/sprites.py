"""From parts to pixels: an object is a list of parts, drawn one over the other, lit, with exact coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from stages.data.scenes.shapes import Polygon
from stages.data.scenes.textures import Material, albedo, noise_tile

_SMALL = 72  # pixels: smaller objects are drawn at twice their size and reduced, for the sake of their patterns
_FINER_EDGES = 4  # outlines are filled at this many times the final size
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Part:
    """One piece of an object: the union of `shapes` minus `holes`.

    `roundness` in [0, 1] says how far its edges are rounded off: 0 is a flat sheet, 1 a pillow. A solid of revolution
    about x = 0 gives its `profile` (radius, y) instead. `lift` is how high it lies over the parts below it, in object
    units: it darkens them around itself. `hollow` turns the light round, as inside a cup.
    """

    shapes: Sequence[Polygon]
    material: Material
    holes: Sequence[Polygon] = ()
    roundness: float = 0.25
    profile: Polygon | None = None
    lift: float = 0.012
    hollow: bool = False


@dataclass(frozen=True)
class Light:
    """A lamp far away and light from everywhere. `towards` is the unit vector to the lamp: x right, y down, z at us."""

    towards: np.ndarray
    ambient: float
    color: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))


@dataclass(frozen=True)
class Sprite:
    """An object in pixels: `color` (H, W, 3) float32 in [0, 1], multiplied by `alpha` (H, W) float32 in [0, 1]."""

    color: np.ndarray
    alpha: np.ndarray


def pose(parts: Sequence[Part], size: float, angle: float, shear: float, aspect: float, mirror: bool) -> np.ndarray:
    """The 2x3 matrix from object units to pixels after which the longer side of the bounding box is `size` pixels."""
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([aspect, 1 / aspect])
    if mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    points = np.concatenate([shape for part in parts for shape in part.shapes]) @ linear.T
    low, high = points.min(axis=0), points.max(axis=0)
    scale = size / max(high - low)
    return np.concatenate([linear * scale, -low[:, None] * scale], axis=1)


def draw(
    parts: Sequence[Part],
    to_pixels: np.ndarray,
    light: Light,
    photo: np.ndarray,
    feather: float,
    rng: np.random.Generator,
) -> Sprite:
    """Draws the parts, later ones on top. `photo` is a uint8 patch for photographic materials.

    `feather` is the sigma of the final blur of colour and coverage in pixels, so an object's edge is as soft as the
    picture it is put in.
    """
    margin = int(np.ceil(3 * feather)) + 1
    points = np.concatenate([shape for part in parts for shape in part.shapes]) @ to_pixels[:, :2].T + to_pixels[:, 2]
    width, height = (int(np.ceil(extent)) + 2 * margin for extent in points.max(axis=0))
    finer = 2 if max(width, height) < _SMALL else 1
    matrix = to_pixels.copy()
    matrix[:, 2] += margin
    matrix *= finer
    color = np.zeros((height * finer, width * finer, 3), np.float32)
    alpha = np.zeros(color.shape[:2], np.float32)
    for part in parts:
        _draw_part(part, matrix, _FINER_EDGES // finer, light, photo, color, alpha, rng)
    start = rng.integers(0, 128, 2)
    grain = cv2.resize(noise_tile()[start[0] : start[0] + 128, start[1] : start[1] + 128], alpha.shape[::-1])
    color *= (1 + rng.uniform(0.01, 0.06) * grain)[..., None]
    both = cv2.merge([color, alpha])
    if finer > 1:
        both = cv2.resize(both, (width, height), interpolation=cv2.INTER_AREA)
    both = cv2.GaussianBlur(both, (0, 0), feather)
    return Sprite(both[..., :3], both[..., 3])


def _draw_part(
    part: Part, matrix: np.ndarray, finer: int, light: Light, photo: np.ndarray,
    color: np.ndarray, alpha: np.ndarray, rng: np.random.Generator,
) -> None:  # fmt: skip
    polygons = [shape @ matrix[:, :2].T + matrix[:, 2] for shape in part.shapes]
    lift = part.lift * float(np.linalg.norm(matrix[:, 0]))
    border = int(np.ceil(2.5 * lift)) + 3
    points = np.concatenate(polygons)
    x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int) - border, 0)
    x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + border, alpha.shape[::-1])
    origin = np.array([x0, y0])
    holes = [shape @ matrix[:, :2].T + matrix[:, 2] for shape in part.holes]
    shape = int(y1 - y0), int(x1 - x0)
    coverage = _coverage([p - origin for p in polygons], [p - origin for p in holes], shape, finer)
    mask = coverage.astype(np.float32) / 255

    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    inverse[:, 2] += inverse[:, :2] @ (origin + 0.5)
    columns = np.arange(x1 - x0, dtype=np.float32)
    rows = np.arange(y1 - y0, dtype=np.float32)[:, None]
    u, v = (np.float32(a) * columns + (np.float32(b) * rows + np.float32(c)) for a, b, c in inverse)

    surface = albedo(part.material, u, v, inverse, photo, rng.random(2))
    shade, highlight = _lit(part, coverage, u, v, matrix, light)
    layer = surface * (shade[..., None] * light.color)
    layer += highlight[..., None]
    np.clip(layer, 0, 1, out=layer)

    window, cover = color[y0:y1, x0:x1], alpha[y0:y1, x0:x1]
    if lift > 0.3:  # the parts below get less light around this one
        soft = cv2.GaussianBlur(mask, (0, 0), lift)
        shift = np.array([[1, 0, -lift * light.towards[0]], [0, 1, -lift * light.towards[1]]])
        soft = cv2.warpAffine(soft, shift, (soft.shape[1], soft.shape[0]))
        window *= (1 - 0.45 * soft)[..., None]
    rest = 1 - mask
    window *= rest[..., None]
    layer *= mask[..., None]
    window += layer
    cover *= rest
    cover += mask


def _coverage(polygons: Sequence[Polygon], holes: Sequence[Polygon], shape: tuple[int, int], finer: int) -> np.ndarray:
    """Covered share of each pixel, uint8 of 255: filled at `finer` times the size and averaged.

    OpenCV's own antialiasing (LINE_AA) widens a polygon by 0.4 pixels and leaves steps.
    """
    fine = np.zeros((finer * shape[0], finer * shape[1]), np.uint8)
    for polygon, value in [(p, 255) for p in polygons] + [(p, 0) for p in holes]:
        fixed = np.rint((polygon * finer - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(fine, [fixed], (value,), shift=_SUBPIXEL_BITS)
    return cv2.resize(fine, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _lit(
    part: Part, coverage: np.ndarray, u: np.ndarray, v: np.ndarray, matrix: np.ndarray, light: Light
) -> tuple[np.ndarray, np.ndarray]:
    """How much light a part's pixels send back, (H, W): 1 for a sheet that faces us; and the highlight on top."""
    lamp = light.towards
    if part.profile is not None:
        radius = np.interp(v, part.profile[:, 1], part.profile[:, 0]).astype(np.float32)
        across = np.clip(u / np.maximum(radius, 1e-3), -0.97, 0.97)
        axis = matrix[:, 0] / np.linalg.norm(matrix[:, 0])
        normal_x, normal_y = across * np.float32(axis[0]), across * np.float32(axis[1])
        normal_z = np.sqrt(1 - across * across)
    else:
        distance = cv2.distanceTransform((coverage > 127).astype(np.uint8), cv2.DIST_L2, 3)
        reach = max(part.roundness * float(distance.max()), 1.5)
        inside = 1 - np.minimum(distance / reach, 1)
        height = reach * np.sqrt(np.maximum(1 - inside * inside, 0))
        height = cv2.GaussianBlur(height, (0, 0), max(0.22 * reach, 0.7))
        slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
        slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
        normal_z = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
        normal_x, normal_y = -slope_x * normal_z, -slope_y * normal_z
    sign = -1.0 if part.hollow else 1.0
    facing = np.maximum(sign * (normal_x * lamp[0] + normal_y * lamp[1]) + normal_z * lamp[2], 0)
    shade = light.ambient * (0.6 + 0.4 * normal_z) + (1 - light.ambient) * facing / lamp[2]
    shade = shade * (1 - part.material.glow) + part.material.glow * (1.15 + 0.1 * normal_z)
    half = lamp + np.array([0, 0, 1.0])
    half /= np.linalg.norm(half)
    mirrored = np.maximum(sign * (normal_x * half[0] + normal_y * half[1]) + normal_z * half[2], 0)
    sharp = 60 if part.profile is None else 36
    highlight = part.material.gloss * mirrored**sharp
    return shade.astype(np.float32), highlight.astype(np.float32)
