"""Outlines as polygons: float arrays (N, 2) of x (right), y (down) in the units of one object; 1 is about its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Polygon = np.ndarray  # (N, 2) float64


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Polygon:
    """Arc around (x, y) from `start` to `stop` degrees; 0 is right and 90 is down. The whole ellipse by default."""
    angle = np.radians(np.linspace(start, stop, 33))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Polygon:
    """Rectangle; corners rounded with `radius`, which is cut to half the shorter side."""
    radius = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    if radius <= 0:
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=float)
    corners = [(x1, y1, 0), (x0, y1, 90), (x0, y0, 180), (x1, y0, 270)]
    arcs = []
    for x, y, start in corners:
        centre_x, centre_y = x - np.sign(x - x0 or -1) * radius, y - np.sign(y - y0 or -1) * radius
        arcs.append(ellipse(centre_x, centre_y, radius, radius, start, start + 90)[::4])
    return np.concatenate(arcs)


def moved(polygon: Polygon, x: float, y: float) -> Polygon:
    """The same outline, moved by (x, y)."""
    return polygon + np.array([x, y])


def spline(points: Sequence[Sequence[float]] | np.ndarray, closed: bool = False, steps: int = 8) -> Polygon:
    """Catmull-Rom curve through `points` (at least two), with `steps` points from each to the next."""
    knots = np.asarray(points, dtype=float)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    a, b, c, d = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, knots[-1:]])


def ribbon(path: Polygon, width: float | np.ndarray) -> Polygon:
    """Band of `width` (one number, or one a point) along an open path, with square ends."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    aside = np.stack([-along[:, 1], along[:, 0]], axis=1) * (np.asarray(width) / 2).reshape(-1, 1)
    return np.concatenate([path + aside, (path - aside)[::-1]])


def line(x0: float, y0: float, x1: float, y1: float, width: float, end_width: float | None = None) -> Polygon:
    """Straight bar from one point to another; `end_width` makes it taper."""
    return ribbon(
        np.array([[x0, y0], [x1, y1]], dtype=float), np.array([width, width if end_width is None else end_width])
    )


def turned(profile: Polygon, tilt: float) -> Polygon:
    """What a solid of revolution about x = 0 shows: `profile` is (radius, y) from top to bottom.

    `tilt` is the height over width of its circles seen from above: its foot and its top end in half ellipses.
    """
    (top_r, top_y), (foot_r, foot_y) = profile[0], profile[-1]
    foot = ellipse(0, foot_y, foot_r, foot_r * tilt, 0, 180)
    top = ellipse(0, top_y, top_r, top_r * tilt, 180, 360)
    left = profile[::-1] * np.array([-1.0, 1.0])
    return np.concatenate([profile, foot, left, top])


def hoop(profile: Polygon, tilt: float) -> Polygon:
    """The front of a band round a solid of revolution; `profile` and `tilt` as for `turned`."""
    (top_r, top_y), (foot_r, foot_y) = profile[0], profile[-1]
    upper = ellipse(0, top_y, top_r, top_r * tilt, 180, 0)
    lower = ellipse(0, foot_y, foot_r, foot_r * tilt, 0, 180)
    return np.concatenate([upper, profile, lower, profile[::-1] * np.array([-1.0, 1.0])])


def leaf(x: float, y: float, angle: float, length: float, width: float, bend: float) -> tuple[Polygon, Polygon]:
    """Blade that starts at (x, y) towards `angle` (degrees, 0 up, positive right), and the path of its midrib."""
    s = np.linspace(0, 1, 15)
    heading = np.radians(angle + bend * s)
    path = np.stack([x + length * s * np.sin(heading), y - length * s * np.cos(heading)], axis=1)
    return ribbon(path, width * np.sin(np.pi * np.clip(s, 0.02, 1) ** 0.7) + 0.012), path


def blob(rng: np.random.Generator, roughness: float) -> Polygon:
    """Closed random outline of radius about 0.5: a circle with a few harmonics of amplitude up to `roughness`."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.full_like(angle, 0.5)
    for order in range(2, 6):
        radius += 0.5 * roughness / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.12, 0.9)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
