"""Masks travel with views: the same crop and flip as the picture's, pooled into cells, and drawn from fairly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.data.masks import records
from stages.data.masks.segmentation import LabelMaps, LabelRuns, MaskStack, enlarged, runs_of_mask
from stages.data.region_draws import ABSENT, draw_regions, region_shares
from stages.data.render import Photo, crop_window, render
from stages.data.views import Box, View, plain_view

WIDTHS = st.sampled_from([(1, 1), (1, 30), (30, 1), (7, 9), (40, 31), (2, 300), (300, 3)])  # H, W


def stored(labels: np.ndarray) -> LabelRuns:
    """The map as it comes back from a file."""
    size = labels.shape[1], labels.shape[0]
    return records.decode_map(records.encode(LabelMaps(size, [labels.astype(np.uint16)])), 1, 0)


def stack_of(masks: np.ndarray) -> MaskStack:
    size = masks.shape[2], masks.shape[1]
    return MaskStack(size, [runs_of_mask(mask) for mask in masks], np.ones(len(masks), np.float32))


def flipped(view: View, flip: bool) -> View:
    return View(view.image, view.box, view.size, flip, None, False, None, False)


@st.composite
def label_maps(draw: st.DrawFn) -> np.ndarray:
    """Large regions and single pixels, numbers left out, photos of a row, a column or a pixel, panoramas."""
    height, width = draw(WIDTHS)
    coarse = draw(arrays(np.uint16, (min(height, 4), min(width, 4)), elements=st.integers(0, 6)))
    labels = enlarged(coarse, (width, height)).copy()
    for _ in range(draw(st.integers(0, 6))):
        labels[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = draw(st.integers(0, 9))
    return labels


@st.composite
def boxes(draw: st.DrawFn, height: int, width: int) -> Box:
    """Inside the photo, with fractions of pixels; often up to its border, or a pixel wide."""
    sides = []
    for length in (width, height):
        low = draw(st.one_of(st.just(0.0), st.floats(0, length - 0.01)))
        high = draw(st.one_of(st.just(float(length)), st.floats(low, length), st.just(min(low + 1, length))))
        sides.append((low, high))
    (x0, x1), (y0, y1) = sides
    return x0, y0, x1, y1


def shown(labels: np.ndarray, view: View) -> np.ndarray:
    """(S, S): the label at the centre of each pixel of the view, in exact fractions."""
    left, top, right, bottom = crop_window(view.box, Photo(np.zeros((*labels.shape, 3), np.uint8)))
    centers = [Fraction(2 * i + 1, 2 * view.size) for i in range(view.size)]
    rows = [top + int(center * (bottom - top)) for center in centers]
    columns = [left + int(center * (right - left)) for center in centers]
    seen = labels[np.ix_(rows, columns)]
    return seen[:, ::-1].copy() if view.flip else seen


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_mask_shows_the_pixels_of_its_picture(data: st.DataObject) -> None:
    """The photo's colours are its regions, and the crop is as large as the view, so that the picture is no mixture."""
    labels = data.draw(label_maps())
    height, width = labels.shape
    size = data.draw(st.integers(1, min(height, width)))
    x0 = data.draw(st.floats(0, width - size))
    y0 = data.draw(st.floats(0, height - size))
    x1 = int(x0 + 0.5) + size + data.draw(st.floats(-0.5, 0.49))  # rounds to `size` whole pixels
    box = (x0, y0, x1, int(y0 + 0.5) + float(size))
    view = flipped(plain_view(0, box, size), data.draw(st.booleans()))
    photo = Photo(np.repeat(labels[:, :, None].astype(np.uint8), 3, axis=2))
    picture = render({"view": view}, lambda image, reduction: photo)["view"][0].numpy()

    shares = region_shares(stored(labels), view, size)  # a pixel a cell
    assert set(np.unique(shares)) <= {0, 1}
    np.testing.assert_array_equal(shares.argmax(axis=0), picture)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_shares_count_the_nearest_pixels_of_each_cell(data: st.DataObject) -> None:
    labels = data.draw(label_maps())
    size = data.draw(st.integers(1, 40))
    view = flipped(plain_view(0, data.draw(boxes(*labels.shape)), size), data.draw(st.booleans()))
    cells = data.draw(st.integers(1, min(size, 9)))
    seen = shown(labels, view)
    cell_of = [(2 * i + 1) * cells // (2 * size) for i in range(size)]
    expected = np.zeros((labels.max() + 1, cells, cells))
    for i, j in np.ndindex(size, size):
        expected[seen[i, j], cell_of[i], cell_of[j]] += 1
    expected /= expected.sum(axis=0)
    np.testing.assert_allclose(region_shares(stored(labels), view, cells), expected, rtol=1e-6)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pooling_is_that_of_the_official_code_and_of_the_paper(data: st.DataObject) -> None:
    """methods.md 1.3: one-hot, average pool, argmax; and the average pool of each binary mask, transcribed in torch."""
    labels = data.draw(label_maps())
    cells, side = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 6))
    view = flipped(plain_view(0, data.draw(boxes(*labels.shape)), cells * side), data.draw(st.booleans()))
    one_hot = F.one_hot(torch.from_numpy(shown(labels, view).astype(np.int64)), 256).permute(2, 0, 1)
    pooled = F.avg_pool2d(one_hot.double(), kernel_size=side, stride=side)  # (256, G, G)
    winners = F.one_hot(pooled.argmax(dim=0), 256).permute(2, 0, 1)
    shares = region_shares(stored(labels), view, cells)
    rng = np.random.default_rng(0)
    for pooling, weights_of in (("hard", winners), ("soft", pooled)):
        weights, ids = draw_regions(rng, shares, regions=40, pooling=pooling)
        assert (weights.dtype, weights.shape) == (np.float32, (40, cells, cells))
        assert (ids.dtype, ids.shape) == (np.int32, (40,))
        np.testing.assert_allclose(weights, weights_of[ids].numpy(), rtol=1e-6)
        assert (weights.sum(axis=(1, 2)) > 0).all()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_masks_may_overlap(data: st.DataObject) -> None:
    shape = data.draw(WIDTHS)
    masks = data.draw(arrays(bool, (data.draw(st.integers(1, 4)), *shape)))
    cells, side = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    view = flipped(plain_view(0, data.draw(boxes(*shape)), cells * side), data.draw(st.booleans()))
    seen = torch.from_numpy(np.stack([shown(mask, view) for mask in masks]))
    expected = F.avg_pool2d(seen.double()[None], kernel_size=side, stride=side)[0].numpy()
    shares = region_shares(stack_of(masks), view, cells)
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    weights, ids = draw_regions(np.random.default_rng(0), shares, regions=16, pooling="soft")
    if expected.any():
        assert set(ids) <= set(np.flatnonzero(expected.any(axis=(1, 2))))
        np.testing.assert_array_equal(weights, shares[ids])
    else:
        assert not weights.any()
        assert (ids == ABSENT).all()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_smaller_map_stands_for_its_enlargement(data: st.DataObject) -> None:
    labels = data.draw(label_maps())
    size = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    view = flipped(plain_view(0, data.draw(boxes(*size[::-1])), 12), data.draw(st.booleans()))
    small = records.decode_map(records.encode(LabelMaps(size, [labels])), 1, 0)
    large = region_shares(stored(enlarged(labels, size)), view, 3)
    found = region_shares(small, view, 3)
    np.testing.assert_array_equal(found[: len(large)], large)
    assert not found[len(large) :].any()


def test_one_region_a_photo_fills_every_view() -> None:
    shares = region_shares(stored(np.zeros((30, 40), int)), plain_view(0, (3, 4, 20, 30), 14), 7)
    weights, ids = draw_regions(np.random.default_rng(0), shares, regions=3, pooling="hard")
    assert weights.tolist() == np.ones((3, 7, 7)).tolist()
    assert ids.tolist() == [0, 0, 0]


def test_a_region_without_a_cell_of_its_own_is_drawn_by_soft_pooling_alone() -> None:
    labels = np.full((8, 8), 5)
    labels[:, 4:] = 2
    labels[0, 0] = 9
    shares = region_shares(stored(labels), plain_view(0, (0, 0, 8, 8), 8), 2)
    drawn = {}
    for pooling in ("hard", "soft"):
        drawn[pooling] = draw_regions(np.random.default_rng(0), shares, regions=200, pooling=pooling)
    assert set(drawn["hard"][1]) == {2, 5}
    assert set(drawn["soft"][1]) == {2, 5, 9}
    weights, ids = drawn["soft"]
    assert weights[ids == 9][0].tolist() == [[1 / 16, 0], [0, 0]]


def test_the_lowest_number_wins_a_tie() -> None:
    labels = np.array([[7, 3], [3, 7]])
    shares = region_shares(stored(labels), plain_view(0, (0, 0, 2, 2), 4), 1)
    assert shares[[3, 7], 0, 0].tolist() == [0.5, 0.5]
    _, ids = draw_regions(np.random.default_rng(0), shares, regions=50, pooling="hard")
    assert set(ids) == {3}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_local_feature_is_of_one_cell_that_shows_its_region(data: st.DataObject) -> None:
    labels = data.draw(label_maps())
    cells = data.draw(st.integers(1, 7))
    view = plain_view(0, data.draw(boxes(*labels.shape)), cells * data.draw(st.integers(1, 6)))
    shares = region_shares(stored(labels), view, cells)
    weights, ids = draw_regions(np.random.default_rng(0), shares, regions=40, pooling="local")
    assert (weights.sum(axis=(1, 2)) == 1).all()
    assert (weights.max(axis=(1, 2)) == 1).all()
    assert ((weights * shares[ids]).sum(axis=(1, 2)) > 0).all()


def test_all_pixels_of_a_region_are_as_likely_to_give_its_local_feature() -> None:
    """Region 1 fills a cell, half of a second and a quarter of a third."""
    labels = np.zeros((4, 4), int)
    labels[:2, :2] = labels[0, 2:] = labels[2, 0] = 1
    shares = region_shares(stored(labels), plain_view(0, (0, 0, 4, 4), 4), 2)
    weights, ids = draw_regions(np.random.default_rng(0), shares, regions=20_000, pooling="local")
    found = weights[ids == 1].mean(axis=0)
    np.testing.assert_allclose(found, np.array([[4, 2], [1, 0]]) / 7, atol=0.02)


@pytest.mark.parametrize("pooling", ["hard", "soft", "local"])
def test_surviving_regions_are_equally_likely_whatever_their_size(pooling: str) -> None:
    """One region of 13 cells and three of one, two more outside the view: draws are counted."""
    labels = np.repeat(np.repeat(np.array([[0, 0, 0, 8], [0, 0, 0, 0], [0, 0, 0, 4], [0, 0, 6, 0]]), 5, 0), 5, 1)
    labels = np.pad(labels, 3, constant_values=1)
    shares = region_shares(stored(labels), plain_view(0, (3, 3, 23, 23), 16), 4)
    rng = np.random.default_rng(0)
    draws = np.stack([draw_regions(rng, shares, regions=16, pooling=pooling)[1] for _ in range(1000)])
    numbers, counts = np.unique(draws, return_counts=True)
    assert numbers.tolist() == [0, 4, 6, 8]
    assert np.abs(counts - 4000).max() < 4 * np.sqrt(16_000 * 0.25 * 0.75)
    pairs = np.bincount(4 * np.searchsorted(numbers, draws[:, 0]) + np.searchsorted(numbers, draws[:, 1]))
    assert np.abs(pairs - 1000 / 16).max() < 4.5 * np.sqrt(1000 / 16), "one does not depend on another"
