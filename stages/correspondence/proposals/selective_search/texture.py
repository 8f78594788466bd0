"""The texture of selective search: derivatives in eight directions, in codes (Uijlings et al. 2013, section 3.2).

OpenCV splits each of four derivatives (along x, y and both diagonals) into its positive and its negative part,
stretches either to 0 .. 255 and counts it in 10 bins. Where one part has a value the other one is zero, so a single
code says both bins: 0 .. 9 is the bin of a positive derivative, 10 .. 19 ten more than that of a negative one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

DIRECTIONS = 4
CODES = 20


def texture_codes(channel: np.ndarray, *, rotated: bool) -> np.ndarray:
    """The codes of one (H, W) uint8 channel: (DIRECTIONS, H, W) uint8.

    rotated: derive along the diagonals in a rotated copy of the channel, as OpenCV does, which takes most of the time
    and blurs. Else they are the sum and the difference of the derivatives along x and y (Scharr's kernel is steerable).
    """
    along_x, along_y = cv2.Scharr(channel, cv2.CV_16S, 1, 0), cv2.Scharr(channel, cv2.CV_16S, 0, 1)
    diagonals = _rotated_derivatives(channel) if rotated else (along_x - along_y, along_x + along_y)
    codes = np.empty((DIRECTIONS, *channel.shape), np.uint8)
    for derivative, plane in zip((along_x, along_y, *diagonals), codes, strict=True):
        _encode(derivative, plane)
    return codes


def _rotated_derivatives(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives along x and y of the channel turned by 45 degrees, turned back. Two (H, W) float32."""
    height, width = channel.shape
    center = (width / 2, height / 2)
    # At least the picture's own size, which is more than that of the turned picture where one side is far longer.
    side_x, side_y = np.maximum(cv2.RotatedRect(center, (width, height), 45).boundingRect()[2:], (width, height))
    turn = cv2.getRotationMatrix2D(center, 45, 1)
    turn[:, 2] += side_x / 2 - center[0], side_y / 2 - center[1]
    turned = cv2.warpAffine(channel, turn, (int(side_x), int(side_y)))
    back = cv2.getRotationMatrix2D((int(side_x // 2), int(side_y // 2)), -45, 1)
    left, top = (side_x - width) // 2, (side_y - height) // 2
    along_x, along_y = (
        cv2.warpAffine(cv2.Scharr(turned, cv2.CV_32F, dx, 1 - dx), back, turned.shape[::-1])
        [top : top + height, left : left + width]
        for dx in (1, 0)
    )  # fmt: skip
    return along_x, along_y


@njit(cache=True, nogil=True, error_model="numpy")
def _encode(derivative, codes):
    """derivative: (H, W) int16 or float32. codes: (H, W) uint8, overwritten."""
    height, width = derivative.shape
    least = most = derivative[0, 0]
    for y in range(height):
        for x in range(width):
            least, most = min(least, derivative[y, x]), max(most, derivative[y, x])
    # The negative part runs from 0 at `least` to 255 at zero.
    up = np.float32(255 / most) if most > 0 else np.float32(0)
    down = np.float32(-255 / least) if least < 0 else np.float32(0)
    for y in range(height):
        for x in range(width):
            value = np.float32(derivative[y, x])
            negative = value < 0
            level = np.int32(np.rint(value * (down if negative else up) + np.float32(255 if negative else 0)))
            codes[y, x] = np.uint8(((level * 10) >> 8) + (10 if negative else 0))
