"""Figures of regions on a case that can be counted, and the rows that stand for photos."""

from __future__ import annotations

import pytest
import torch

from stages.learning.metrics import healths
from stages.learning.region_figures import matched_share, one_region_a_photo, region_figures

IDS_1 = torch.tensor([[4, 4, 7], [0, 1, -1], [-1, -1, -1]])
IDS_2 = torch.tensor([[9, 7, 4], [2, 2, -1], [0, 1, 2]])


def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(45.0).view(3, 3, 5).requires_grad_(), -torch.arange(45.0).view(3, 3, 5).requires_grad_()


def test_shares_and_numbers_are_those_that_one_counts():
    assert matched_share((IDS_1, IDS_2)).item() == pytest.approx((3 + 2) / 18)
    figures = region_figures(embeddings(), (IDS_1, IDS_2))
    assert figures["regions"].item() == pytest.approx((2 + 2 + 0 + 3 + 1 + 3) / 6)


def test_a_photo_stands_with_the_first_region_in_both_views():
    z_1, z_2 = embeddings()
    first, second = one_region_a_photo((z_1, z_2), (IDS_1, IDS_2))
    assert torch.equal(first, torch.stack([z_1[0, 0], z_1[1, 0], z_1[2, 0]]))
    assert torch.equal(second, torch.stack([z_2[0, 2], z_2[1, 0], z_2[2, 0]]))  # the last two have none
    assert not first.requires_grad


def test_region_similarity_is_that_of_different_regions_alone():
    """Of view 1 in photo 0: two draws of one region and one of another, at a right angle; elsewhere no two regions."""
    z = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0], [3.0, 3.0]]])
    one = torch.zeros(2, 3, dtype=torch.int64)
    none = region_figures((z, z), (one, one))["region_similarity"]
    right_angle = region_figures((z, z), (torch.tensor([[0, 0, 1], [0, 0, 0]]), one))["region_similarity"]
    mixed = region_figures((z, z), (torch.tensor([[0, 0, 1], [0, 0, -1]]), torch.tensor([[0, 0, 0], [5, 6, 6]])))
    assert none == right_angle == 0
    assert mixed["region_similarity"].item() == pytest.approx(4 * 1 / (4 + 4))


def test_a_collapse_within_photos_shows_where_figures_over_photos_are_healthy():
    rng = torch.Generator().manual_seed(0)
    photos = torch.randn(64, 1, 32, generator=rng).expand(-1, 4, -1)
    ids = torch.arange(4).expand(64, -1)
    health = healths({"image": one_region_a_photo((photos, photos), (ids, ids))})
    assert health["std"] > 0.9 / 32**0.5
    assert health["negative_similarity"] == pytest.approx(0, abs=0.05)
    assert region_figures((photos, photos), (ids, ids))["region_similarity"].item() == pytest.approx(1)
