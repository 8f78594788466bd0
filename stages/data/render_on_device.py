"""From views to pixels on a GPU, many views at once: workers only decode, and this draws what they packed.

What is drawn agrees with torchvision's operations on float tensors within 1 level of 0 .. 255: crop and antialiased
resize, rounded to whole levels; the colours, rounded once after the blur; solarise. `stages.data.render` does the same
by other means, so that both draw the same picture: they differ by a mean of 0.13 levels, and by up to 16 levels in
single pixels, because it rounds a resized crop once more, which strong colour operations widen.

It also runs on a CPU, for tests, but gains nothing there. On a GPU nothing waits: what decides how tensors are cut lies
in the host's memory from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data.packing import Sheet
from stages.data.render import SOLARIZE_THRESHOLD, Interpolation

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in PIL and torchvision

# Crops that shrink more are resized along one side after the other, which is the same: PyTorch's kernel for GPUs keeps
# the weights of both in a block's shared memory, where there is room for those of 46 (bicubic) or 93 (bilinear).
_ONE_PASS = 32


@torch.no_grad()
def draw(sheet: Sheet, pixels: Tensor, interpolation: Interpolation) -> Tensor:
    """The n views of `sheet`, (n, 3, size, size) uint8 on the device of `pixels`.

    pixels: (bytes,) uint8, what the windows of the sheet point into.
    """

    def put(table: np.ndarray) -> Tensor:
        # Small enough that the driver takes a copy at once and does not make this thread wait.
        return torch.from_numpy(table).to(pixels.device, non_blocking=True)

    x = _crops(pixels, sheet.windows.tolist(), sheet.size, interpolation)
    x = torch.where(put(sheet.flips), x.flip(-1), x)
    hue_rows, hue_turns = (put(table).split(sheet.hue_counts) for table in (sheet.hue_rows, sheet.hue_turns))
    for weights, rows, turns in zip(put(sheet.blends), hue_rows, hue_turns, strict=True):
        x = _blend(x, weights)
        if len(rows):
            x[rows] = turn_hue(x[rows], turns)
    if len(sheet.blur_rows):
        rows = put(sheet.blur_rows)
        x[rows] = blur(x[rows], put(sheet.blur_kernels))
    x.round_()
    if len(sheet.solarize_rows):
        rows = put(sheet.solarize_rows)
        bright = x[rows]
        x[rows] = torch.where(bright < SOLARIZE_THRESHOLD, bright, 255 - bright)
    return x.to(torch.uint8)


def _crops(pixels: Tensor, windows: Iterable[list[int]], size: int, interpolation: Interpolation) -> Tensor:
    """(n, 3, size, size) float32, whole levels. The one place that goes view by view: no two crops have one shape."""
    resize = partial(F.interpolate, mode=interpolation, antialias=True)
    crops = []
    for start, row_bytes, height, width in windows:
        crop = pixels.as_strided((1, 3, height, width), (0, 1, row_bytes, 3), start)
        crop = crop.to(torch.float32, memory_format=torch.contiguous_format)
        if max(height, width) > _ONE_PASS * size:
            crop = resize(crop, (height, size))
        crops.append(resize(crop, (size, size)))
    return torch.cat(crops).round_().clamp_(0, 255)  # bicubic overshoots


def _blend(x: Tensor, weights: Tensor) -> Tensor:
    """Brightness, contrast, saturation and gray are all of one form: a sum of three pictures, each with a weight.

    Args:
        x: (n, 3, S, S) in 0 .. 255; overwritten.
        weights: (n, 3) of the picture itself, of its mean luma, and of its own luma.
    """
    own, mean_luma, own_luma = weights[:, :, None, None, None].unbind(1)
    red, green, blue = x.unbind(1)
    luma = (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]
    target = mean_luma * luma.mean(dim=(2, 3), keepdim=True) + own_luma * luma
    return x.mul_(own).add_(target).clamp_(0, 255)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Each picture's colours turned around the HSV circle; saturation and value stay.

    x: (n, 3, S, S) in 0 .. 255. turns: (n,), 1 is the whole circle. Returns (n, 3, S, S).
    """
    red, green, blue = x.unbind(1)
    value = x.amax(1)
    chroma = value - x.amin(1)
    # The hue in sixths of the circle, from which the shift goes on; gray has none, and chroma 0 hides what comes out.
    divisor = chroma.clamp_min(1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * turns[:, None, None]
    # A channel loses chroma by its distance on the circle from where it is strongest: red at 0, green at 2, blue at 4.
    distance = torch.stack([(hue + 5) % 6, (hue + 3) % 6, (hue + 1) % 6], 1)  # (n, 3, S, S)
    loss = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return value[:, None] - chroma[:, None] * loss


def blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Each picture blurred by its own kernel along both sides, mirrored at the border. kernels: (n, taps), taps odd."""
    n, channels, *sides = x.shape
    radius = kernels.shape[1] // 2
    kernels = kernels[:, None].expand(-1, channels, -1).flatten(0, 1)  # (3n, taps)
    planes = F.pad(x, [radius] * 4, mode="reflect").flatten(0, 1)[None]  # (1, 3n, S + 2r, S + 2r)
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=n * channels)
    planes = F.conv2d(planes, kernels[:, None, None, :], groups=n * channels)
    return planes.view(n, channels, *sides)
