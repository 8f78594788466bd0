"""The sheet of what the network saw."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from stages.data.contact_sheet import views_sheet


def test_sheet_shows_at_most_eight_samples_pixel_by_pixel(tmp_path):
    colors = torch.arange(10, dtype=torch.uint8).mul(20).reshape(10, 1, 1, 1)
    batch = {
        "view_1": torch.zeros(10, 3, 130, 130, dtype=torch.uint8) + colors,
        "patch": torch.tensor([255, 0, 7], dtype=torch.uint8).view(3, 1, 1).expand(10, 3, 48, 48),
    }
    views_sheet(batch, tmp_path / "views.png")
    sheet = np.asarray(Image.open(tmp_path / "views.png"))
    red = (sheet == [255, 0, 7]).all(axis=2)
    assert red.sum() == 8 * 48 * 48
    for sample in range(1, 10):  # black would be counted with the caption's darkest pixels
        shown = (sheet == 20 * sample).all(axis=2).sum()
        assert (shown >= 130 * 130) if sample < 8 else (shown < 1000)


def test_small_views_are_enlarged_by_whole_factors(tmp_path):
    checkers = (torch.arange(64).view(1, 64) + torch.arange(64).view(64, 1)) % 2 * 255
    batch = {"view_1": checkers.to(torch.uint8).expand(1, 3, 64, 64)}
    views_sheet(batch, tmp_path / "views.png")
    sheet = np.asarray(Image.open(tmp_path / "views.png").convert("L"))
    assert sheet.shape[0] > 128
    enlarged = np.kron(checkers.numpy(), np.ones((2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (128, 128))
    assert any(np.array_equal(window, enlarged) for row in windows for window in row)
