"""The colour operations of a view, compiled for the CPU: torchvision's formulas on float32, vectorised.

Nothing is rounded to whole levels between operations, as torchvision (on uint8) and PIL do: a view is rounded once, at
its end. Each operation keeps its values within 0 .. 255.

Importing this module compiles it, which takes seconds once and is then kept on the disk: `stages.data.render` imports
it when the first view is drawn.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from stages.data.compiled import OPTIONS, compiled

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GRAY = range(5)
OPERATIONS = {"brightness": _BRIGHTNESS, "contrast": _CONTRAST, "saturation": _SATURATION, "hue": _HUE, "gray": _GRAY}

# Plain numbers would turn the sums that they are part of to float64, which halves the speed.
_0, _HALF, _1, _2, _3, _4, _6, _255 = (np.float32(number) for number in (0, 0.5, 1, 2, 3, 4, 6, 255))
_RED, _GREEN, _BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)  # ITU-R 601, as in PIL and torchvision


@njit(fastmath=True, **OPTIONS)
def _luma(r, g, b):
    return _RED * r + _GREEN * g + _BLUE * b


@njit(fastmath=True, **OPTIONS)
def _clipped(level):
    return min(max(level, _0), _255)


@njit(fastmath=True, **OPTIONS)
def _mean_luma(red, green, blue):
    total = _0
    for i in range(len(red)):
        total += _luma(red[i], green[i], blue[i])
    return total / np.float32(len(red))


@njit(fastmath=True, **OPTIONS)
def _blend_with_gray(red, green, blue, own, constant, luma):
    """Each channel becomes own * channel + constant + luma * the luma of its pixel: all operations but the hue."""
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        target = constant + luma * _luma(r, g, b)
        red[i], green[i], blue[i] = _clipped(own * r + target), _clipped(own * g + target), _clipped(own * b + target)


@njit(fastmath=True, **OPTIONS)
def _turn_hue(red, green, blue, turns):
    """Turns the colours around the hexagon of HSV; saturation and value stay.

    With the hue h in sextants and the chroma c, hsv2rgb is min + clip(c |h - 3| - c, 0, c) for red,
    min + clip(2c - c |h - 2|, 0, c) for green, and with 4 instead of 2 for blue. Only c h is needed, so nothing is
    divided.
    """
    shift = np.float32(6 * (turns - np.floor(turns + 0.5)))  # within -3 .. 3 sextants
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        high, low = max(r, max(g, b)), min(r, min(g, b))
        c = high - low
        ch = r - g + _4 * c  # blue is strongest
        ch = b - r + _2 * c if high == g else ch
        ch = g - b if high == r else ch
        ch += shift * c  # -4 c .. 8 c
        ch += _6 * c if ch < _0 else _0
        ch -= _6 * c if ch >= _6 * c else _0
        red[i] = low + min(max(abs(ch - _3 * c) - c, _0), c)
        green[i] = low + min(max(_2 * c - abs(ch - _2 * c), _0), c)
        blue[i] = low + min(max(_2 * c - abs(ch - _4 * c), _0), c)


@compiled("void(uint8[:,:,::1], float32[:,::1], float32[:,:,::1])", fastmath=True)
def adjust(picture, steps, planes):
    """The colours of `picture` after `steps`, into `planes`.

    Args:
        picture: (S, S, 3) uint8 RGB.
        steps: (n, 2) float32, each a number from `OPERATIONS` and a factor, applied in this order. The hue's factor is
            a shift in turns; gray has none.
        planes: (3, S, S) float32, overwritten with red, green and blue in 0 .. 255.
    """
    interleaved = picture.reshape(-1)
    red, green, blue = planes[0].reshape(-1), planes[1].reshape(-1), planes[2].reshape(-1)
    for i in range(len(red)):
        red[i], green[i], blue[i] = interleaved[3 * i], interleaved[3 * i + 1], interleaved[3 * i + 2]
    for step in range(len(steps)):
        operation, factor = int(steps[step, 0]), steps[step, 1]
        if operation == _BRIGHTNESS:
            _blend_with_gray(red, green, blue, factor, _0, _0)
        elif operation == _CONTRAST:
            _blend_with_gray(red, green, blue, factor, (_1 - factor) * _mean_luma(red, green, blue), _0)
        elif operation == _SATURATION:
            _blend_with_gray(red, green, blue, factor, _0, _1 - factor)
        elif operation == _HUE:
            _turn_hue(red, green, blue, factor)
        else:
            _blend_with_gray(red, green, blue, _0, _0, _1)


@compiled("void(float32[:,:,::1], int32, uint8[:,:,::1])", fastmath=True)
def store(planes, solarize_from, view):
    """Rounds `planes` into `view`; levels from `solarize_from` (0 .. 256) on are inverted.

    planes: (3, S, S) float32 in 0 .. 255. view: (3, S, S) uint8, overwritten.
    """
    levels, stored = planes.reshape(-1), view.reshape(-1)
    for i in range(len(levels)):
        level = np.int32(levels[i] + _HALF)
        stored[i] = np.uint8(255 - level if level >= solarize_from else level)
