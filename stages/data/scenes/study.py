"""Things of the study: book, lamp, clock, guitar. Each function draws new proportions, parts and patterns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.data.scenes.shapes import box, ellipse, line, moved, ribbon, spline, turned
from stages.data.scenes.sprites import Part
from stages.data.scenes.textures import Palette

Place = Callable[[float, float], tuple[float, float]]  # a point of a side of the book -> x, y


def book(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Closed book at an angle: cover with a title, spine with bands, and the pages above."""
    width, thick = rng.uniform(0.55, 0.8), rng.uniform(0.1, 0.26)
    slope, back = rng.uniform(0.03, 0.2), rng.uniform(0.08, 0.2)

    def on_cover(x: float, y: float) -> tuple[float, float]:
        return x * width, y - slope * x

    def on_spine(x: float, y: float) -> tuple[float, float]:
        return -x * thick, y - back * x

    def quad(place: Place, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        return np.array([place(x0, y0), place(x1, y0), place(x1, y1), place(x0, y1)])

    cloth = paint(0, "weave", "plain", "photo", "print", "mottle", period=0.05, gloss=0.2)
    far = moved(np.array(on_cover(1, -1)), -thick, -back)
    pages = np.array(
        [on_cover(0.02, -0.99), on_cover(0.97, -0.99), moved(far, 0, 0.02), np.array(on_spine(0.97, -0.99))]
    )
    bands = [quad(on_spine, 0, y, 1, y + 0.035) for y in np.linspace(-0.9, -0.15, int(rng.integers(2, 6)))]
    plain = cloth.but(pattern="plain")
    edge = paint(3, "pinstripes", period=0.03)
    paper = edge.but(
        color=edge.color * 0.35 + 0.6, accent=edge.color * 0.3 + 0.4, angle=np.arctan2(back, thick) + np.pi / 2
    )
    title_y = rng.uniform(-0.88, -0.5)
    title = quad(on_cover, 0.15, title_y, 0.85, title_y + rng.uniform(0.12, 0.28))
    lines = [quad(on_cover, 0.22, y, rng.uniform(0.5, 0.8), y + 0.025) for y in (title_y + 0.04, title_y + 0.09)]
    parts = [
        Part([np.array([on_cover(0, -1), on_cover(1, -1), far, on_spine(1, -1)])], plain.darker(0.8), roundness=0.1),
        Part([pages], paper, roundness=0.05, lift=0.01),
        Part([quad(on_spine, 0, -1, 1, 0)], plain.darker(0.68), profile=np.array([(thick, -1), (thick, 0)])),
        Part(bands, paint(2, gloss=0.5).darker(0.75), roundness=0.3, lift=0.004),
        Part([quad(on_cover, 0, -1, 1, 0)], cloth, roundness=0.08, lift=0),
        Part([quad(on_cover, 0.035, -1, 0.055, 0)], plain.darker(0.72), roundness=0, lift=0),
        Part([title], paint(1, gloss=0.3), roundness=0.05, lift=0.002),
        Part(lines, paint(3).darker(0.5), roundness=0, lift=0),
    ]
    if rng.random() < 0.5:
        y = rng.uniform(-0.3, -0.12)
        parts.append(Part([quad(on_cover, 0.3, y, 0.7, y + 0.04)], paint(2, gloss=0.5), roundness=0.2, lift=0.002))
    return parts


def lamp(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Shade that is often lit, stem (straight or with bulbs) and a round base."""
    top, bottom, height = rng.uniform(0.1, 0.26), rng.uniform(0.26, 0.4), rng.uniform(0.3, 0.46)
    tilt = rng.uniform(0.1, 0.24)
    glow = float(rng.choice([0.0, 0.55, 0.8]))
    shade = paint(0, "plain", "pleats", "weave", "stripes", "print", period=0.1, gloss=0.05).but(glow=glow)
    if shade.pattern in ("pleats", "stripes"):
        shade = shade.but(angle=0.0 if shade.pattern == "pleats" else float(rng.choice([0, np.pi / 2])))
    if glow:
        shade = shade.but(color=shade.color * 0.65 + 0.3, accent=shade.accent * 0.65 + 0.3)
    stem_top, foot = -1 + height, rng.uniform(0.2, 0.3)
    shade_profile = spline(
        [(top, -1), ((top + bottom) / 2 + rng.uniform(-0.05, 0.03), -1 + height / 2), (bottom, stem_top)]
    )
    metal = paint(1, "plain", "wood", period=0.12, gloss=0.7)
    slim = rng.uniform(0.018, 0.035)
    if rng.random() < 0.5:
        stem = np.array([(slim, stem_top - 0.05), (slim, -0.03)])
    else:
        wide = rng.uniform(0.06, 0.16)
        knots = [
            (slim, stem_top - 0.05),
            (slim * 1.2, stem_top * 0.8),
            (wide, stem_top * 0.5),
            (slim * 1.6, -0.12),
            (wide * 0.8, -0.02),
        ]
        stem = spline(knots)
    base = spline([(slim * 2, -rng.uniform(0.06, 0.12)), (foot * 0.75, -0.05), (foot, 0.0)])
    inside = paint(0).darker(0.5).but(glow=min(glow * 1.2, 1.0))
    return [
        Part([turned(base, tilt)], metal, profile=base, lift=0),
        Part([turned(stem, 0.1)], paint(2, "plain", "wood", gloss=0.6) if rng.random() < 0.5 else metal, profile=stem),
        Part([turned(shade_profile, tilt)], shade, profile=shade_profile, lift=0.03),
        Part([ribbon(ellipse(0, stem_top, bottom, bottom * tilt, 0, 180), 0.022)], paint(2), roundness=0.5, lift=0),
        Part([ellipse(0, -1, top, top * tilt)], inside, roundness=0.3, hollow=True, lift=0),
    ]


def clock(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Round or squarish case, face with twelve marks, two hands; some have alarm bells and feet."""
    square, rim = rng.random() < 0.25, rng.uniform(0.035, 0.09)
    radius = 0.5 - rim
    case = box(-0.5, -0.5, 0.5, 0.5, rng.uniform(0.06, 0.2)) if square else ellipse(0, 0, 0.5, 0.5)
    face = box(-radius, -radius, radius, radius, 0.06) if square else ellipse(0, 0, radius, radius)
    dial = paint(1, "plain", "plain", "plain", "print", gloss=0.1)
    bright = float(dial.color.mean()) > 0.5
    hand = paint(3, gloss=0.3)
    hand = hand.but(color=hand.color * 0.3 if bright else hand.color * 0.4 + 0.55)
    angles = np.radians(np.arange(0, 360, 30))
    inner, outer = radius * rng.uniform(0.74, 0.84), radius * 0.93
    marks = [
        line(
            np.sin(a) * inner, -np.cos(a) * inner, np.sin(a) * outer, -np.cos(a) * outer, 0.034 if k % 3 == 0 else 0.018
        )
        for k, a in enumerate(angles)
    ]
    hours, minutes = rng.uniform(0, 2 * np.pi, 2)
    hands = [
        line(-0.05 * np.sin(a), 0.05 * np.cos(a), r * radius * np.sin(a), -r * radius * np.cos(a), w, w * 0.4)
        for a, r, w in ((hours, 0.5, 0.055), (minutes, 0.8, 0.04))
    ]
    parts = []
    if not square and rng.random() < 0.5:
        brass = paint(2, gloss=0.8)
        for side in (-1, 1):
            bell = ellipse(0, 0, 0.17, 0.14, 180, 360) @ np.array([[0.83, 0.56 * side], [-0.56 * side, 0.83]])
            parts.append(Part([line(side * 0.2, 0.3, side * 0.36, 0.56, 0.07)], brass, roundness=0.9))
            parts.append(Part([moved(bell, side * 0.3, -0.44)], brass, roundness=1))
        parts.append(Part([ribbon(ellipse(0, -0.55, 0.1, 0.12, 180, 360), 0.035)], brass, roundness=0.9))
    return [
        *parts,
        Part([case], paint(0, "plain", "wood", "plain", period=0.15, gloss=0.6), roundness=0.22),
        Part([face], dial, roundness=0.08, hollow=True, lift=0.008),
        Part(marks, hand, roundness=0, lift=0),
        Part(hands, hand, roundness=0.3, lift=0.012),
        Part([ellipse(0, 0, 0.035, 0.035)], paint(2, gloss=0.8), roundness=1, lift=0.006),
    ]


def guitar(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Waisted body, sound hole with a ring, bridge, long neck with frets, head with pegs, strings."""
    lower, upper, waist = rng.uniform(0.26, 0.32), rng.uniform(0.19, 0.24), rng.uniform(0.13, 0.17)
    right = [
        (0.0, 0.02),
        (lower * 0.75, 0.0),
        (lower, -0.16),
        (waist, -0.33),
        (upper, -0.46),
        (upper * 0.6, -0.56),
        (0.0, -0.57),
    ]
    half = spline(right)
    body = np.concatenate([half, half[::-1] * [-1, 1]])
    wood = paint(0, "wood", "wood", "plain", period=0.16, gloss=0.5)
    neck, hole = rng.uniform(0.032, 0.042), rng.uniform(0.07, 0.09)
    end = rng.uniform(-0.98, -0.86)
    head = [
        (-neck, end + 0.02),
        (-neck * 1.9, end - 0.03),
        (-neck * 1.6, end - 0.17),
        (neck * 1.6, end - 0.17),
        (neck * 1.9, end - 0.03),
        (neck, end + 0.02),
    ]
    pegs = [ellipse(side * neck * 2.3, end - y, 0.018, 0.014) for side in (-1, 1) for y in (0.05, 0.095, 0.14)]
    frets = [line(-neck, y, neck, y, 0.007) for y in np.linspace(end + 0.04, -0.5, 10)]
    strings = [line(x * neck * 0.4, end, x * neck * 0.7, -0.14, 0.004) for x in (-1.6, -0.55, 0.55, 1.6)]
    trim = paint(1, gloss=0.3)
    steel = trim.but(color=trim.color * 0.3 + 0.6, gloss=0.6)
    return [
        Part([body], trim.darker(0.7), roundness=0.2),
        Part([moved(body * 0.95, 0, -0.014)], wood, roundness=0.12, lift=0),
        Part([ellipse(0, -0.36, hole * 1.3, hole * 1.3)], paint(2), roundness=0.1, lift=0),
        Part([ellipse(0, -0.36, hole, hole)], paint(3).darker(0.15), roundness=0.3, hollow=True, lift=0),
        Part([box(-0.085, -0.155, 0.085, -0.12, 0.01)], paint(2).darker(0.6), roundness=0.5, lift=0.008),
        Part(pegs, steel, roundness=1),
        Part([np.array(head)], paint(2, "plain", "wood", gloss=0.4), roundness=0.2),
        Part(
            [box(-neck, end, neck, -0.43)], paint(3, "plain", "wood", gloss=0.3).darker(0.7), roundness=0.3, lift=0.012
        ),
        Part(frets, steel, roundness=0, lift=0),
        Part(strings, steel, roundness=0, lift=0),
    ]
