"""Things of the living room: chair, cushion, plant, vase. Each function draws new proportions, parts and patterns."""

from __future__ import annotations

import numpy as np

from stages.data.scenes.shapes import box, ellipse, hoop, leaf, line, ribbon, spline, turned
from stages.data.scenes.sprites import Part
from stages.data.scenes.textures import Palette


def chair(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Seat seen from above and the side, four legs, and a back of slats, spindles or one board."""
    depth, skew, seat_y = rng.uniform(0.13, 0.2), rng.uniform(0.08, 0.2), rng.uniform(-0.5, -0.42)
    splay, bar = rng.uniform(0.0, 0.05), rng.uniform(0.04, 0.065)
    wood = paint(0, "wood", "wood", "plain", period=0.1, gloss=0.3)
    left, right = -0.27, 0.27
    rear_y = seat_y - depth
    rear_left, rear_right = left + skew, right + skew
    front = [
        line(x, seat_y, x + side * splay, 0, bar, bar * 0.75) for x, side in ((left + 0.03, -1), (right - 0.03, 1))
    ]
    rear = [line(x, rear_y, x + splay, -depth * 0.8, bar, bar * 0.75) for x in (rear_left + 0.03, rear_right - 0.03)]
    top_y, lean = -1.0, rng.uniform(0.0, 0.1)
    posts = [line(x, rear_y + 0.03, x + lean, top_y, bar) for x in (rear_left + 0.025, rear_right - 0.025)]

    def across(y: float, height: float) -> np.ndarray:
        shift = lean * (y - rear_y) / (top_y - rear_y)
        return box(rear_left + shift, y, rear_right + shift, y + height, 0.02)

    style = rng.choice(["slats", "spindles", "board"])
    if style == "slats":
        back = [across(y, 0.07) for y in np.linspace(top_y + 0.02, rear_y - 0.14, int(rng.integers(2, 5)))]
    elif style == "spindles":
        xs = np.linspace(rear_left + 0.1, rear_right - 0.1, int(rng.integers(3, 6)))
        back = [across(top_y, 0.09), *(line(x, rear_y, x + lean, top_y + 0.05, 0.026) for x in xs)]
    else:
        back = [across(top_y, rng.uniform(0.22, 0.36))]
    seat = np.array(
        [(left - 0.02, seat_y), (right + 0.02, seat_y), (rear_right + 0.02, rear_y), (rear_left - 0.02, rear_y)]
    )
    edge = box(left - 0.02, seat_y - 0.005, right + 0.02, seat_y + rng.uniform(0.035, 0.07), 0.015)
    cover = paint(1, "weave", "checks", "stripes", "photo", "wood", "print", period=0.09, gloss=0.1)
    rung = line(left + 0.03 - splay / 2, seat_y / 2, right - 0.03 + splay / 2, seat_y / 2, bar * 0.6)
    return [
        Part(rear, wood.darker(0.75), roundness=0.8),
        Part(posts, wood, roundness=0.8),
        Part(back, paint(1, "weave", "plain", "print", period=0.06) if style == "board" else wood, roundness=0.6),
        Part([*front, *([rung] if rng.random() < 0.6 else [])], wood, roundness=0.8),
        Part([seat], cover, roundness=0.25),
        Part(
            [edge],
            wood.darker(0.85) if rng.random() < 0.5 else cover.but(pattern="plain").darker(0.8),
            roundness=0.4,
            lift=0.02,
        ),
    ]


def cushion(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Pillow with drawn-out corners, a patterned cloth, piping round it; a button or tassels on some."""
    height, pinch = rng.uniform(0.62, 1.0), rng.uniform(0.05, 0.11)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * [1, height]
    corners = corners + rng.normal(0, 0.015, corners.shape)
    edges = []
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inward = -(start + stop) / 2 * pinch * 2
        edges.append(
            spline([start, start * 0.75 + stop * 0.25 + inward * 0.8, start * 0.25 + stop * 0.75 + inward * 0.8, stop])[
                :-1
            ]
        )
    outline = np.concatenate(edges)
    patterns = ("stripes", "checks", "dots", "zigzag", "chess", "photo", "print", "weave")
    cloth = paint(0, *patterns, period=rng.uniform(0.1, 0.24), gloss=0.04)
    piping = paint(1, gloss=0.1)
    parts = []
    if rng.random() < 0.35:
        outwards = [(corner, corner * rng.uniform(1.12, 1.22)) for corner in corners]
        ends = [ribbon(np.array(path), np.array([0.03, 0.09])) for path in outwards]
        parts.append(Part(ends, paint(2, "pinstripes", period=0.02), roundness=0.5))
    parts.append(Part([outline * 1.02], piping, roundness=0.1))
    parts.append(Part([outline * 0.98], cloth, roundness=1.0, lift=0.015))
    if rng.random() < 0.4:
        creases = [
            line(0, 0, 0.22 * np.cos(a), 0.22 * height * np.sin(a), 0.02, 0.002) for a in rng.uniform(0, 2 * np.pi, 6)
        ]
        parts.append(Part(creases, cloth.but(pattern="plain").darker(0.6), roundness=0.5, lift=0.008))
        parts.append(Part([ellipse(0, 0, 0.045, 0.045)], paint(2, gloss=0.5), roundness=1, lift=0.02))
    return parts


def plant(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Pot with a rim and earth in it; blades or stalked leaves with midribs grow from it."""
    top, height, tilt = rng.uniform(0.2, 0.28), rng.uniform(0.3, 0.44), rng.uniform(0.12, 0.26)
    foot = top * rng.uniform(0.6, 0.95)
    pot = paint(0, "plain", "stripes", "zigzag", "weave", "speckle", "print", period=0.12, gloss=0.3)
    profile = np.array([(top, -height), (foot, 0.0)])
    rim = np.array([(top * 1.1, -height - 0.03), (top * 1.1, -height + rng.uniform(0.03, 0.07))])
    green = paint(1, "plain", "mottle", "speckle", period=0.3, gloss=0.25)
    kind = rng.choice(["blades", "leaves", "palm"])
    count = int(rng.integers(6, 10)) if kind != "palm" else int(rng.integers(7, 12))
    spread = {"blades": 32.0, "leaves": 62.0, "palm": 78.0}[str(kind)]
    layers: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    stalks = []
    for k, angle in enumerate(np.linspace(-spread, spread, count) + rng.normal(0, 6, count)):
        x = 0.4 * top * angle / spread
        length = rng.uniform(0.4, 0.68)
        if kind == "leaves":
            lean, rise = np.sin(np.radians(angle)), np.cos(np.radians(angle))
            joint = (x + length * 0.6 * lean, -height - 0.12 - length * 0.5 * rise)
            stalk = spline([(x, -height), (x + 0.1 * lean, -height - 0.14), joint])
            stalks.append(ribbon(stalk, 0.018))
            blade = leaf(
                stalk[-1, 0], stalk[-1, 1], angle, rng.uniform(0.26, 0.36), rng.uniform(0.15, 0.24), angle * 0.5
            )
        elif kind == "palm":
            blade = leaf(x * 0.4, -height, angle * 0.8, length, rng.uniform(0.06, 0.1), angle * 1.0)
        else:
            blade = leaf(x, -height + 0.02, angle * 0.6, length, rng.uniform(0.1, 0.15), angle * 0.5)
        layers[k % 2].append(blade)
    parts = [Part([ellipse(0, -height, top * 1.05, top * tilt)], paint(3).darker(0.35), roundness=0.2, lift=0)]
    if stalks:
        parts.append(Part(stalks, green.but(pattern="plain").darker(0.7), roundness=0.8))
    for shade, layer in zip((0.66, 1.0), layers, strict=True):
        parts.append(Part([blade for blade, _ in layer], green.darker(shade), roundness=0.7, lift=0.02))
        ribs = [ribbon(path[1:-3], 0.011) for _, path in layer]
        parts.append(
            Part(ribs, green.but(color=green.color * 0.6 * shade + 0.25 * shade, pattern="plain"), roundness=0, lift=0)
        )
    parts.append(Part([turned(profile, tilt)], pot, profile=profile, lift=0))
    parts.append(
        Part(
            [hoop(rim, tilt)],
            paint(0, gloss=0.3) if rng.random() < 0.5 else paint(2, gloss=0.3),
            profile=rim,
            lift=0.02,
        )
    )
    return parts


def vase(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Wide belly, narrow neck, flared lip, foot, painted bands; most have two handles."""
    belly, neck = rng.uniform(0.26, 0.38), rng.uniform(0.08, 0.14)
    lip, foot, tilt = neck * rng.uniform(1.35, 2.0), rng.uniform(0.12, 0.2), rng.uniform(0.12, 0.26)
    belly_y, neck_y = rng.uniform(-0.58, -0.4), rng.uniform(-0.88, -0.8)
    profile = spline(
        [
            (lip, -1.0),
            (neck, neck_y),
            (belly * 0.82, belly_y - 0.17),
            (belly, belly_y),
            (belly * 0.72, -0.2),
            (foot, -0.05),
            (foot * 1.15, 0.0),
        ]
    )
    clay = paint(0, "plain", "mottle", "speckle", "pleats", "print", period=0.1, gloss=0.4)
    if clay.pattern == "pleats":
        clay = clay.but(angle=0.0)
    parts = []
    if rng.random() < 0.75:
        bulge = rng.uniform(0.08, 0.2)
        for side in (-1, 1):
            handle = spline(
                [
                    (side * neck, neck_y - 0.02),
                    (side * (belly * 0.75 + bulge), neck_y - 0.02),
                    (side * (belly + bulge * 0.6), belly_y - 0.15),
                    (side * belly * 0.88, belly_y - 0.06),
                ]
            )
            parts.append(Part([ribbon(handle, rng.uniform(0.04, 0.06))], paint(0, gloss=0.4), roundness=1))
    parts.append(Part([turned(profile, tilt)], clay, profile=profile, lift=0.02))
    for number in range(int(rng.integers(1, 4))):
        y = rng.uniform(-0.72, -0.18)
        cut = profile[(profile[:, 1] >= y) & (profile[:, 1] <= y + rng.uniform(0.05, 0.14))]
        if len(cut) < 2:
            continue
        parts.append(
            Part(
                [hoop(cut, tilt)],
                paint(1 + number % 2, "plain", "zigzag", "dots", "chess", period=0.06, gloss=0.4),
                profile=profile,
                lift=0,
            )
        )
    parts.append(Part([ellipse(0, -1, lip, lip * tilt)], paint(0, gloss=0.5), roundness=0.15, lift=0))
    parts.append(
        Part([ellipse(0, -1, lip * 0.8, lip * 0.74 * tilt)], paint(0).darker(0.22), roundness=0.5, hollow=True, lift=0)
    )
    return parts
