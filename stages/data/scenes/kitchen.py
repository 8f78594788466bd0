"""Things of the kitchen: mug, teapot, bottle, fish. Each function draws new proportions, parts and patterns."""

from __future__ import annotations

import numpy as np

from stages.data.scenes.shapes import box, ellipse, hoop, line, ribbon, spline, turned
from stages.data.scenes.sprites import Part
from stages.data.scenes.textures import Palette


def mug(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Straight cup, seen from a little above, with a handle at its side and something to drink."""
    top, tilt = rng.uniform(0.33, 0.46), rng.uniform(0.14, 0.34)
    foot = top * rng.uniform(0.68, 1.0)
    wall = paint(0, "plain", "plain", "stripes", "dots", "speckle", "print", "zigzag", period=0.16, gloss=0.5)
    profile = spline([(top, -1), (top * 0.6 + foot * 0.4, -0.5), (foot, -0.08), (foot * 0.94, 0)])
    reach, drop = rng.uniform(0.2, 0.34), rng.uniform(0.2, 0.33)
    arc = ellipse(top * 0.9, rng.uniform(-0.6, -0.45), reach, drop, -100, 100)
    parts = [
        Part([ribbon(arc, rng.uniform(0.07, 0.12))], wall.but(pattern="plain"), roundness=1),
        Part([turned(profile, tilt)], wall, profile=profile, lift=0.02),
    ]
    if rng.random() < 0.4:
        y = rng.uniform(-0.55, -0.3)
        band = np.array([(foot * 0.4 + top * 0.6, y), (foot * 0.55 + top * 0.45, y + rng.uniform(0.08, 0.2))])
        parts.append(Part([hoop(band, tilt)], paint(1, "plain", "stripes", gloss=0.5), profile=band, lift=0))
    rim = ellipse(0, -1, top, top * tilt)
    inner = ellipse(0, -1, top * 0.91, top * 0.91 * tilt - 0.012)
    drink = ellipse(0, -1 + 0.2 * top * tilt, top * 0.82, top * 0.72 * tilt)
    parts += [
        Part([rim], paint(int(rng.integers(0, 2)), gloss=0.6), roundness=0.2, lift=0),
        Part([inner], paint(0, gloss=0.2).darker(0.72), roundness=0.6, hollow=True, lift=0),
        Part([drink], paint(3, "plain", "mottle", gloss=0.6).darker(0.8), roundness=0.1, lift=0),
    ]
    return parts


def teapot(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Round belly with a curved spout, a handle behind, a lid with a knob and a foot."""
    height = rng.uniform(0.3, 0.42)
    belly = paint(0, "plain", "plain", "dots", "print", "mottle", "stripes", period=0.14, gloss=0.6)
    tip_x, tip_y = rng.uniform(-0.95, -0.8), -height * rng.uniform(0.75, 1.1)
    spout = spline([(-0.3, 0.16), (-0.58, 0.08), (-0.7, -0.12), (tip_x, tip_y)])
    width = np.linspace(0.28, rng.uniform(0.08, 0.12), len(spout))
    if rng.random() < 0.6:
        handle = ellipse(0.42, -0.02, rng.uniform(0.3, 0.42), height * rng.uniform(0.6, 0.8), -110, 110)
    else:
        handle = ellipse(0, -height * 0.7, 0.46, rng.uniform(0.5, 0.62), 180, 360)
    lid = rng.uniform(0.2, 0.3)
    lid_y = -height * np.sqrt(1 - (lid / 0.5) ** 2)
    knob = rng.uniform(0.05, 0.085)
    rise = rng.uniform(0.06, 0.14)
    trim = paint(int(rng.integers(0, 2)), gloss=0.6)
    parts = [
        Part([ribbon(handle, rng.uniform(0.06, 0.1))], paint(1, "plain", "wood", gloss=0.4), roundness=1),
        Part([ribbon(spout, width)], belly.but(pattern="plain"), roundness=0.9),
        Part([box(-0.24, height * 0.8, 0.24, height + 0.05, 0.03)], trim, roundness=0.5),
        Part([ellipse(0, 0, 0.5, height)], belly, roundness=1, lift=0.02),
        Part([ellipse(0, lid_y - rise, knob, knob)], paint(2, gloss=0.7), roundness=1),
        Part([ellipse(0, lid_y + 0.01, lid, rise + 0.01, 180, 360)], belly.but(pattern="plain"), roundness=0.9),
        Part([ellipse(0, lid_y + 0.01, lid * 1.06, 0.025)], trim, roundness=0.8),
    ]
    if rng.random() < 0.4:
        chord = 0.5 * np.sqrt(1 - 0.1**2)
        band = box(-chord, -0.1 * height, chord, rng.uniform(0.1, 0.3) * height)
        parts.insert(
            4, Part([band], paint(2, "plain", "zigzag", "dots", period=0.08), profile=np.array([(0.5, -1), (0.5, 1)]))
        )
    return parts


def bottle(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Body, shoulder, slim neck, cap, and a label round the body."""
    body, neck = rng.uniform(0.13, 0.22), rng.uniform(0.042, 0.07)
    shoulder, slope = rng.uniform(-0.68, -0.45), rng.uniform(0.06, 0.22)
    flare = rng.uniform(0.9, 1.1)
    tilt = rng.uniform(0.06, 0.2)
    profile = np.concatenate([
        [(neck, -1.0), (neck, shoulder - slope)],
        spline([(neck, shoulder - slope), (0.5 * (neck + body), shoulder - slope * 0.35), (body * flare, shoulder)]),
        [(body * flare, shoulder + 0.05), (body, -0.1), (body, -0.03), (body * 0.9, 0.0)],
    ])  # fmt: skip
    glass = paint(0, "plain", "plain", "mottle", period=0.5, gloss=0.9)
    cap_height, cap = rng.uniform(0.06, 0.12), neck * rng.uniform(1.05, 1.4)
    cap_profile = np.array([(cap, -1.02 - cap_height), (cap, -1.0)])
    parts = [Part([turned(profile, tilt)], glass, profile=profile)]
    level, foot = rng.uniform(shoulder + 0.04, -0.35), rng.uniform(-0.22, -0.08)
    label = np.array([(body * 1.005, level), (body * 1.005, foot)])
    paper = paint(1, "plain", "print", "photo", "stripes", "checks", period=0.12, gloss=0.05)
    parts.append(Part([hoop(label, tilt)], paper, profile=label, lift=0.006))
    middle, half = (level + foot) / 2 + body * tilt, body * rng.uniform(0.4, 0.75)
    mark = [box(-half, middle - 0.03, half, middle + 0.02), box(-half * 0.7, middle + 0.045, half * 0.7, middle + 0.06)]
    emblem = ellipse(0, middle - 0.085, 0.045, 0.045)
    parts.append(Part([*mark, emblem], paint(2, gloss=0.05), profile=label, lift=0))
    if rng.random() < 0.5:
        ring = np.array([(neck * 1.12, shoulder - slope - 0.1), (neck * 1.12, shoulder - slope - 0.06)])
        parts.append(Part([turned(ring, tilt)], paint(2, gloss=0.6), profile=ring))
    parts.append(
        Part([turned(cap_profile, tilt)], paint(2, "plain", "pleats", period=0.03, gloss=0.4), profile=cap_profile)
    )
    shine = line(-body * 0.62, shoulder + 0.08, -body * 0.62, -0.08, body * 0.1)
    white = glass.but(pattern="plain", color=glass.color * 0.5 + 0.5, gloss=0.0)
    parts.insert(1, Part([shine], white, roundness=0, lift=0))
    return parts


def fish(rng: np.random.Generator, paint: Palette) -> list[Part]:
    """Body with scales or stripes, tail, fins above and below, gill, eye and mouth."""
    height, belly = rng.uniform(0.15, 0.3), rng.uniform(0.9, 1.25)
    back = spline([(-0.5, 0.0), (-0.32, -height * 0.8), (-0.02, -height), (0.3, -height * 0.5), (0.5, -0.05)])
    front = spline([(0.5, 0.05), (0.25, height * 0.5), (-0.1, height * belly), (-0.36, height * 0.7), (-0.5, 0.0)])
    skin = paint(0, "scales", "scales", "stripes", "speckle", "mottle", period=0.085, gloss=0.5)
    if skin.pattern == "stripes":
        skin = skin.but(angle=np.pi / 2, period=0.2)
    fin = paint(1, "pleats", period=0.05, gloss=0.3)
    fork, span = rng.uniform(0.0, 0.14), rng.uniform(0.18, 0.32)
    tail = spline(
        [(0.44, 0), (0.62, -span * 0.6), (0.82, -span), (0.8 - fork, 0), (0.82, span), (0.62, span * 0.6)], True
    )
    crest = spline(
        [(-0.2, -height * 0.85), (0.0, -height - rng.uniform(0.08, 0.2)), (0.24, -height * 0.9), (0.32, -height * 0.4)]
    )
    under = spline([(0.0, height * 0.7), (0.14, height + 0.14), (0.24, height * 0.8), (0.22, height * 0.45)])
    eye_x, eye_y, eye = rng.uniform(-0.38, -0.34), -height * rng.uniform(0.2, 0.35), rng.uniform(0.034, 0.055)
    gill = ribbon(ellipse(-0.36, 0, 0.15, height * 0.72, -62, 62), 0.022)
    side = spline([(-0.1, 0.03), (0.02, -0.03), (0.14, 0.05), (0.1, 0.15)], True)
    face = spline(
        [
            (-0.5, 0),
            (-0.4, -height * 0.6),
            (-0.27, -height * 0.4),
            (-0.24, 0.02),
            (-0.27, height * 0.5),
            (-0.4, height * 0.6),
        ],
        True,
    )
    ink, pearl = paint(3).darker(0.25), paint(3, gloss=0.8)
    return [
        Part([tail], fin.but(angle=np.pi / 2, pattern="pinstripes"), roundness=0.4),
        Part([crest, under], fin, roundness=0.4),
        Part([np.concatenate([back, front])], skin, roundness=0.95, lift=0.02),
        Part([face], paint(2, gloss=0.5), roundness=0.4, lift=0),
        Part([gill], skin.but(pattern="plain").darker(0.6), roundness=0.4, lift=0.004),
        Part([side], fin, roundness=0.5),
        Part([ellipse(eye_x, eye_y, eye, eye)], pearl.but(color=pearl.color * 0.3 + 0.65), roundness=0.6, lift=0.004),
        Part([ellipse(eye_x - 0.006, eye_y, eye * 0.55, eye * 0.55)], ink, roundness=0.6, lift=0),
        Part([line(-0.5, 0.03, -0.42, 0.05, 0.016)], ink, roundness=0, lift=0),
    ]
