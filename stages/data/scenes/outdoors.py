"""Things of the waterside: kite, boat, umbrella, wheel. Each function draws new proportions, parts and patterns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stages.data.scenes.shapes import ellipse, line, moved, ribbon, spline
from stages.data.scenes.sprites import Part
from stages.data.scenes.textures import Palette


def kite(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Diamond of four cloths with spars along its diagonals, and a waving tail with bows."""
    wide, cross, low = rng.uniform(0.32, 0.44), rng.uniform(-0.2, -0.08), rng.uniform(0.36, 0.5)
    top, right, bottom, left = (0.0, -0.48), (wide, cross), (0.0, low), (-wide, cross)
    middle = (0.0, cross)
    cloths = [paint(k, "plain", "stripes", "dots", "print", period=0.12, gloss=0.1) for k in (0, 1)]
    swing, length = rng.uniform(0.06, 0.14) * rng.choice([-1, 1]), rng.uniform(0.25, 0.42)
    tail = spline([(0, low), (swing, low + length * 0.3), (-swing, low + length * 0.65), (swing * 0.6, low + length)])
    bows = []
    for x, y in tail[6 :: int(rng.integers(5, 8))]:
        tip = rng.uniform(0.05, 0.075)
        bows.append(np.array([(x - tip, y - tip * 0.7), (x, y), (x - tip, y + tip * 0.7)]))
        bows.append(np.array([(x + tip, y - tip * 0.7), (x, y), (x + tip, y + tip * 0.7)]))
    spar = paint(3, gloss=0.3).darker(0.6)
    return [
        Part([ribbon(tail, 0.016)], spar, roundness=0.5),
        Part(bows, paint(2, gloss=0.1), roundness=0.4),
        Part([np.array([left, top, right, bottom])], cloths[0], roundness=0.15),
        Part([np.array([top, right, middle]), np.array([middle, left, bottom])], cloths[1], roundness=0.25, lift=0),
        Part([np.array([middle, right, bottom])], cloths[0].darker(0.8), roundness=0.25, lift=0),
        Part([line(*top, *bottom, 0.018), line(*left, *right, 0.018)], spar, roundness=0.5, lift=0.006),
    ]


def boat(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Hull with a painted strake, mast, one or two curved sails, a pennant; a cabin on some."""
    deep, rake, long = rng.uniform(0.14, 0.22), rng.uniform(0.04, 0.14), rng.uniform(0.42, 0.52)
    hull = spline(
        [
            (-long, -0.02),
            (-long + rake, deep * 0.75),
            (-long + rake * 2, deep),
            (long - rake * 2.4, deep),
            (long - rake, deep * 0.6),
            (long + 0.04, -0.05),
        ]
    )
    deck = spline([(long + 0.04, -0.05), (0.1, 0.015), (-long, -0.02)])
    stripe = deep * rng.uniform(0.2, 0.4)
    strake = np.concatenate([deck[:-1] * [0.97, 1], moved(deck[-2::-1] * [0.94, 1], 0, stripe)])
    mast_x, mast_y = rng.uniform(-0.08, 0.1), rng.uniform(-0.95, -0.72)
    boom = rng.uniform(-0.46, -0.32)
    main = np.concatenate(
        [
            spline([(mast_x - 0.015, mast_y + 0.04), (mast_x + boom * 0.68, mast_y * 0.45), (mast_x + boom, -0.1)]),
            [(mast_x - 0.015, -0.08)],
        ]
    )
    bow = long - rng.uniform(0.02, 0.1)
    jib = np.concatenate(
        [
            spline([(mast_x + 0.02, mast_y + 0.1), (mast_x + 0.45 * (bow - mast_x), mast_y * 0.45), (bow, -0.09)]),
            spline([(bow, -0.09), (mast_x + 0.12, -0.1), (mast_x + 0.03, -0.12)]),
        ]
    )
    canvas = paint(1, "plain", "stripes", "pinstripes", "print", "plain", period=0.16, gloss=0.05)
    wood = paint(2, "plain", "wood", gloss=0.3)
    flag = [(mast_x, mast_y - 0.07), (mast_x - rng.uniform(0.1, 0.16), mast_y - 0.045), (mast_x, mast_y - 0.015)]
    sails = [Part([main], canvas, roundness=0.8)]
    if rng.random() < 0.75:
        sails.append(
            Part([jib], paint(int(rng.integers(0, 4)), "plain", "stripes", period=0.16, gloss=0.05), roundness=0.8)
        )
    parts = [Part([line(mast_x, 0, mast_x, mast_y - 0.08, 0.03, 0.02)], wood, roundness=0.9), *sails]
    parts.append(Part([line(mast_x, -0.085, mast_x + boom * 1.03, -0.095, 0.022)], wood, roundness=0.9))
    parts.append(Part([np.array(flag)], paint(0), roundness=0.2))
    if rng.random() < 0.5:
        start = mast_x + 0.03
        cabin = np.array([(start, 0.02), (start + 0.02, -0.085), (start + 0.2, -0.085), (start + 0.24, 0.02)])
        panes = [ellipse(start + x, -0.035, 0.022, 0.022) for x in (0.07, 0.14)]
        parts += [
            Part([cabin], paint(3, gloss=0.3), roundness=0.3),
            Part(panes, paint(2).darker(0.3), roundness=0.3, lift=0),
        ]
    parts.append(
        Part(
            [np.concatenate([hull, deck])],
            paint(0, "plain", "wood", "plain", period=0.1, gloss=0.4),
            roundness=0.8,
            lift=0.015,
        )
    )
    parts.append(Part([moved(strake, 0, 0.015)], paint(3, gloss=0.4), roundness=0.3, lift=0))
    return parts


def umbrella(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Open canopy of gores with a scalloped edge, a tip, a shaft and a crooked handle."""
    height, panels = rng.uniform(0.3, 0.46), int(rng.choice([4, 5, 6, 8]))
    drop = rng.uniform(0.04, 0.09)
    xs = -0.5 * np.cos(np.linspace(0, np.pi, panels + 1))
    gores = []
    for start, stop in pairwise(xs):
        s = np.linspace(0, np.pi / 2, 12)[:, None]
        left = np.concatenate([start * np.sin(s), -height * np.cos(s)], axis=1)
        right = np.concatenate([stop * np.sin(s), -height * np.cos(s)], axis=1)
        edge = spline([(start, 0), ((start + stop) / 2, -drop * min(1.0, abs(stop - start) / 0.2)), (stop, 0)])
        gores.append(np.concatenate([left, edge, right[::-1]]))
    cloth = paint(0, "plain", "plain", "dots", "checks", "print", "stripes", period=0.12, gloss=0.15)
    other = cloth.darker(0.8) if rng.random() < 0.5 else paint(1, gloss=0.15)
    ribs = [ribbon(np.concatenate([x * np.sin(s), -height * np.cos(s)], axis=1), 0.009) for x in xs[1:-1]]
    long, crook = rng.uniform(0.42, 0.6), rng.uniform(0.055, 0.09)
    hook = np.concatenate([[(0, long - 0.12)], ellipse(-crook, long, crook, crook * 1.1, 0, 180)])
    slim = rng.uniform(0.016, 0.026)
    under = ellipse(0, -0.01, 0.47, height * 0.2, 180, 360)
    return [
        Part([under], cloth.but(pattern="plain").darker(0.35), roundness=0.2, lift=0),
        Part([line(0, -0.1, 0, long, slim)], paint(2, gloss=0.7), roundness=0.9, lift=0),
        Part([ribbon(hook, slim * 2.2)], paint(3, "plain", "wood", gloss=0.4), roundness=1),
        Part(
            [line(0, -height - rng.uniform(0.05, 0.09), 0, -height + 0.02, slim, slim * 1.4)],
            paint(2, gloss=0.7),
            roundness=0.9,
        ),
        Part(gores, cloth, roundness=0.9),
        Part(gores[1::2], other, roundness=0.55, lift=0),
        Part(ribs, cloth.but(pattern="plain").darker(0.6), roundness=0, lift=0),
    ]


def wheel(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Bicycle wheel: tyre, rim, thin spokes, hub; many are seen at an angle, some have a reflector or a brake disc."""
    squash = rng.uniform(0.72, 1.0)
    tyre, rim, hub = rng.uniform(0.045, 0.085), rng.uniform(0.02, 0.04), rng.uniform(0.035, 0.07)
    inner = 0.5 - tyre

    def ring(radius: float) -> np.ndarray:
        return ellipse(0, 0, radius * squash, radius)

    count = int(rng.integers(10, 25))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
    twist = rng.uniform(0.0, 0.9) * (-1) ** np.arange(count)
    spokes = [
        line(hub * np.cos(a + t) * squash, hub * np.sin(a + t), inner * np.cos(a) * squash, inner * np.sin(a), 0.014)
        for a, t in zip(angles, twist, strict=True)
    ]
    rubber = paint(0, "plain", "pleats", period=0.04, gloss=0.15)
    steel = paint(1, gloss=0.9)
    parts = [
        Part(spokes, paint(2, gloss=0.9), roundness=0.5),
        Part([ring(0.5)], rubber, holes=[ring(inner)], roundness=1),
        Part([ring(inner + 0.004)], steel, holes=[ring(inner - rim)], roundness=0.8, lift=0),
    ]
    if rng.random() < 0.4:
        disc = rng.uniform(0.12, 0.18)
        parts.append(Part([ring(disc)], paint(3, "plain", "dots", period=0.05, gloss=0.7), roundness=0.1))
    if rng.random() < 0.5:
        reach = inner * 0.6
        glass = ellipse(reach * np.cos(angles[0]) * squash, reach * np.sin(angles[0]), 0.05, 0.035)
        parts.append(Part([glass], paint(3, "checks", period=0.02, gloss=0.8), roundness=0.4))
    parts.append(Part([ring(hub)], paint(2, gloss=0.9), roundness=0.9))
    parts.append(Part([ring(hub * 0.4)], paint(1, gloss=0.9).darker(0.5), roundness=0.9, lift=0.004))
    return parts
