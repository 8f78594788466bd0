"""Crops are PIL's, wherever they are made, and fill batches across photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.correspondence.crops import crop_features, cut, cut_on_device, refilled
from stages.data.boxes import Boxes
from stages.data.catalog import Catalog
from stages.data.photos import Photos
from stages.data.unreadable import UnreadablePhoto
from stages.learning.encoder import load_encoder
from stages.learning.frozen import Frozen

NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)

lengths = st.integers(1, 90)


def by_pil(photo: np.ndarray, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """As the official code does it: (n, 3, height, width) int."""
    image = Image.fromarray(photo)
    crops = [image.crop(box).resize((width, height), Image.Resampling.BILINEAR) for box in boxes.tolist()]
    return np.stack([np.asarray(crop) for crop in crops]).transpose(0, 3, 1, 2).astype(int)


def test_pixels_of_photos_are_those_of_pil(photo_catalog: Catalog, regions: Path) -> None:
    boxes = Boxes(regions)
    for image in range(len(photo_catalog)):
        photo = photo_catalog.pixels(image)
        expected = by_pil(photo, boxes.of(image), 64, 64)
        for crops in (
            cut(photo, boxes.of(image), 64, 64),
            cut_on_device(torch.from_numpy(photo), boxes.of(image), 64, 64),
        ):
            assert crops.dtype == torch.uint8
            assert crops.is_contiguous(memory_format=torch.channels_last)
            error = np.abs(crops.numpy() - expected)
            assert error.max() <= 1
            assert error.mean() < 0.1


@settings(deadline=None, max_examples=200)
@given(st.tuples(lengths, lengths), st.tuples(st.integers(2, 90), lengths), st.integers(0, 30))
def test_any_size_to_any_size(shape: tuple[int, int], size: tuple[int, int], left: int) -> None:
    """Of noise, the hardest picture. Where PIL mixes rows first, pixels differ by one level.

    One pixel wide is left out, as torch 2.15 on a CPU then repeats the first row.
    """
    height, width = shape
    boxes = np.array([[left, 0, left + width, height]])
    expected = by_pil(NOISE, boxes, *size)
    crops, on_device = cut(NOISE, boxes, *size), cut_on_device(torch.from_numpy(NOISE), boxes, *size)
    assert crops.shape == on_device.shape == (1, 3, size[1], size[0])
    assert np.abs(crops.numpy() - expected).max() <= 1
    assert np.abs(on_device.numpy() - expected).max() <= 2  # a tie may fall to the other side in each pass
    if width >= height and size[0] == size[1]:
        np.testing.assert_array_equal(crops.numpy(), expected)


def test_a_box_as_large_as_its_crop_is_copied() -> None:
    boxes = np.array([[7, 3, 47, 43]])
    crop = cut(NOISE, boxes, 40, 40)[0].permute(1, 2, 0)
    np.testing.assert_array_equal(crop, NOISE[3:43, 7:47])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_batches_are_filled_across_photos(batch_size: int) -> None:
    rows = torch.arange(100).reshape(50, 2)
    batches = list(refilled(iter(rows.split([3, 1, 20, 9, 17])), batch_size))
    assert torch.equal(torch.cat(batches), rows)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= batch_size


def test_features_do_not_depend_on_threads(photo_catalog: Catalog, regions: Path, encoder: Path) -> None:
    network, photos, boxes = Frozen(load_encoder(encoder), torch.device("cpu")), Photos(photo_catalog), Boxes(regions)
    rows = [
        torch.cat(list(crop_features(network, photos, boxes, [5, 1], size=32, batch_size=16, threads=threads)))
        for threads in (1, 3)
    ]
    assert len(rows[0]) == len(boxes.of(5)) + len(boxes.of(1))
    assert torch.equal(*rows)


def test_a_lost_photo_is_named(tmp_path: Path, photo_catalog: Catalog, regions: Path, encoder: Path) -> None:
    photos = Photos(Catalog(photo_catalog.directory, tmp_path))
    network = Frozen(load_encoder(encoder), torch.device("cpu"))
    with pytest.raises(UnreadablePhoto, match="no longer can: missing"):
        list(crop_features(network, photos, Boxes(regions), [2], size=32, batch_size=16, threads=2))
