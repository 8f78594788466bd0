"""Crops of photos with their maps, and the data sets that draw them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.data.views import view_rng
from stages.evaluation.tasks.dense.class_maps import ClassMaps
from stages.evaluation.tasks.dense.crops import FILL, Crop, cut_map, cut_pixels, draw_crop, padded
from stages.evaluation.tasks.dense.depth_data import HeldOutFrames, TrainingFrames, central_crop, recolored
from stages.evaluation.tasks.dense.depth_maps import DepthMaps
from stages.evaluation.tasks.dense.label_styles import IGNORED
from stages.evaluation.tasks.dense.segmentation_data import HeldOutPhotos, TrainingCrops, held_out_crop


def ramp(width: int, height: int) -> np.ndarray:
    """(H, W) uint8 whose value says where a pixel is: its column, times two."""
    return np.tile(2 * np.arange(width, dtype=np.uint8), (height, 1))


def test_crops_cover_scales_places_and_both_directions():
    crops = [draw_crop(view_rng(0, 0, i), (400, 300), side=129, scales=(0.5, 2.0)) for i in range(500)]
    widths = np.array([crop.window[2] - crop.window[0] for crop in crops])
    lefts = np.array([crop.window[0] / (400 - width) for crop, width in zip(crops, widths, strict=True)])
    assert widths.min() == pytest.approx(129 / 2, abs=2)
    assert widths.max() == pytest.approx(129 / 0.5, abs=2)
    assert all(crop.width == crop.height == 129 for crop in crops)
    assert lefts.min() < 0.02
    assert lefts.max() > 0.98
    assert np.mean([crop.flip for crop in crops]) == pytest.approx(0.5, abs=0.07)
    assert all(0 <= x0 < x1 <= 400 and 0 <= y0 < y1 <= 300 for x0, y0, x1, y1 in (crop.window for crop in crops))


def test_a_crop_depends_on_seed_epoch_and_photo_alone():
    def drawn(*of: int) -> Crop:
        return draw_crop(view_rng(*of), (400, 300), side=129, scales=(0.5, 2.0))

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({drawn(1, 2, 3), drawn(0, 2, 3), drawn(1, 0, 3), drawn(1, 2, 0)}) == 4


def test_a_photo_smaller_than_its_crop_is_shown_whole_and_filled_up():
    crop = draw_crop(view_rng(0, 0, 0), (60, 40), side=129, scales=(1.0, 1.0))
    assert (crop.window, crop.width, crop.height) == ((0, 0, 60, 40), 60, 40)
    pixels, labels = padded(
        torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(40, 60, dtype=torch.int32), side=129, ignored=IGNORED
    )
    assert pixels.shape == (3, 129, 129)
    assert labels.shape == (129, 129)
    assert (labels == IGNORED).sum() == 129 * 129 - 40 * 60
    assert pixels[:, 128, 128].tolist() == list(FILL) == pixels[:, 0, 60].tolist()
    assert pixels[:, :40, :60].max() == 0


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9])
def test_pixels_and_map_stay_together(flip, scale):
    columns = ramp(100, 80)
    side = int(40 * scale)
    crop = Crop((30, 10, 70, 50), side, side, flip)
    shown = cut_pixels(np.repeat(columns[..., None], 3, axis=2), crop)[0].float()
    labels = cut_map(columns.astype(np.int32), crop).float()
    assert shown.shape == labels.shape == (side, side)
    # In the middle of the crop, as a resized edge has no pixels beyond it.
    assert (shown - labels).abs()[:, 2:-2].max() <= 2 / min(scale, 1)


def test_whole_photos_and_their_middle_are_tested():
    assert held_out_crop((500, 375), None, None) == Crop((0, 0, 500, 375), 500, 375, False)
    assert held_out_crop((500, 375), 513, None) == Crop((0, 0, 500, 375), 500, 375, False)
    assert held_out_crop((1001, 375), 513, None) == Crop((244, 0, 757, 375), 513, 375, False)
    assert held_out_crop((1000, 500), 200, 250) == Crop((300, 50, 700, 450), 200, 200, False)


class Maps(ClassMaps):
    """Label maps in memory."""

    def __init__(self, maps: list[np.ndarray]) -> None:
        self._maps = maps

    def __getitem__(self, image: int) -> np.ndarray:
        return self._maps[image]


def test_samples_of_segmentation(make_photos):
    columns = ramp(64, 48)
    catalog = make_photos({"a.png": np.repeat(columns[..., None], 3, axis=2)})
    maps = Maps([columns.astype(np.uint16)])
    data = TrainingCrops(catalog, maps, side=33, scales=(0.5, 2.0), short_side=None, seed=1)
    batch = data.collate([data[0, epoch] for epoch in range(8)])
    assert batch["pixels"].shape == (8, 3, 33, 33)
    assert batch["pixels"].dtype == torch.uint8
    assert batch["labels"].dtype == torch.int32
    known = batch["labels"] != IGNORED
    assert known.any(dim=(1, 2)).all()
    gap = (batch["pixels"][:, 0].int() - batch["labels"]).abs()[known].float()
    assert gap.mean() < 2  # half a pixel of the photo, whose columns differ by two
    assert torch.equal(data[0, 3]["pixels"], batch["pixels"][3])
    held_out = HeldOutPhotos(catalog, maps, central=None, short_side=24)[0]
    assert held_out["pixels"].shape == (3, 24, 32)
    np.testing.assert_array_equal(held_out["labels"].numpy(), columns)


def test_frames_are_halved_and_cropped_as_in_the_paper():
    assert central_crop((640, 480), 240, (304, 228)) == Crop((16, 12, 624, 468), 304, 228, False)
    # A frame in which the crop would not fit is enlarged until it does.
    assert central_crop((100, 100), 240, (304, 228)) == Crop((0, 12, 100, 87), 304, 228, False)


def test_samples_of_depth(make_photos, tmp_path):
    columns = ramp(64, 48)
    catalog = make_photos({"a.png": np.repeat(columns[..., None], 3, axis=2)})
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", columns.astype(np.float32))
    maps = DepthMaps(catalog, tmp_path / "depth", scale=1)
    data = TrainingFrames(catalog, maps, short_side=24, crop=(28, 20), seed=0)
    batch = data.collate([data[0, epoch] for epoch in range(16)])
    assert batch["pixels"].shape == (16, 3, 20, 28)
    assert batch["depth"].shape == (16, 20, 28)
    rising = batch["depth"][:, 0, -1] > batch["depth"][:, 0, 0]
    assert 0 < rising.sum() < 16  # some are mirrored
    for pixels, depth in zip(batch["pixels"].float(), batch["depth"], strict=True):
        assert torch.corrcoef(torch.stack([pixels.mean(0).flatten(), depth.flatten()]))[0, 1] > 0.99
    held_out = HeldOutFrames(catalog, maps, short_side=24, crop=(28, 20))[0]
    assert held_out["pixels"].shape == (3, 20, 28)
    np.testing.assert_array_equal(held_out["depth"].numpy(), columns[4:44, 4:60])


def test_colours_change_within_their_bounds():
    gray = torch.full((3, 8, 8), 128, dtype=torch.uint8)
    levels = [recolored(gray, np.random.default_rng(seed))[0, 0, 0].item() for seed in range(200)]
    # Gray has neither hue nor saturation: what is left is the brightness.
    assert min(levels) == pytest.approx(128 - 0.1255 * 255, abs=1.5)
    assert max(levels) == pytest.approx(128 + 0.1255 * 255, abs=1.5)
    red = torch.tensor([200, 30, 30], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    without_colour = [recolored(red, np.random.default_rng(seed))[:, 0, 0].float().std() < 1 for seed in range(400)]
    assert np.mean(without_colour) == pytest.approx(0.3, abs=0.07)
