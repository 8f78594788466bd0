"""Pooling under masks against the sum written out, and what it is for masks that are plain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.learning.region_pooling import pool_regions


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), regions=st.integers(1, 4), h=st.integers(1, 4), w=st.integers(1, 4),
    scale=st.floats(1e-3, 1e3),
)  # fmt: skip
def test_is_the_mean_of_the_cells_weighted_by_the_mask(seed: int, regions: int, h: int, w: int, scale: float):
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, h, w, generator=rng, dtype=torch.float64)
    masks = torch.rand(2, regions, h, w, generator=rng, dtype=torch.float64)
    masks[masks < 0.4] = 0

    pooled = pool_regions(features, masks)

    assert pooled.shape == (2, regions, 3)
    for n in range(2):
        for r in range(regions):
            total = torch.zeros(3, dtype=torch.float64)
            for i in range(h):
                for j in range(w):
                    total += masks[n, r, i, j] * features[n, :, i, j]
            expected = total / masks[n, r].sum() if masks[n, r].any() else torch.zeros(3, dtype=torch.float64)
            torch.testing.assert_close(pooled[n, r], expected)
    torch.testing.assert_close(pool_regions(features, scale * masks), pooled)


def test_a_mask_of_ones_averages_and_a_single_cell_is_taken_as_it_is():
    features = torch.randn(2, 5, 7, 7)
    masks = torch.ones(2, 2, 7, 7)
    masks[:, 1] = 0
    masks[:, 1, 3, 4] = 0.25
    pooled = pool_regions(features, masks)
    torch.testing.assert_close(pooled[:, 0], features.mean(dim=(2, 3)))
    assert torch.equal(pooled[:, 1], features[:, :, 3, 4])


def test_an_empty_mask_gives_zeros_and_no_gradient():
    features = torch.randn(1, 3, 2, 2, requires_grad=True)
    pooled = pool_regions(features, torch.zeros(1, 1, 2, 2))
    pooled.square().sum().backward()
    assert not pooled.any()
    assert not features.grad.any()


def test_pools_in_float32_under_autocast_and_any_layout():
    features, masks = torch.randn(2, 64, 7, 7).bfloat16(), torch.rand(2, 3, 7, 7)
    expected = pool_regions(features.double(), masks.double())
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool_regions(features.to(memory_format=torch.channels_last), masks)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 7, 6), (2, 3, 6, 7), (4, 3, 7, 7)])
def test_masks_of_another_map_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="Make them for this backbone and this size of views"):
        pool_regions(torch.randn(2, 5, 7, 7), torch.ones(shape))
