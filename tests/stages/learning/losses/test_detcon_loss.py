"""DetCon's loss against its transcription, its exact values, NT-Xent and lightly's loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detcon_by_hand import by_hand, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from process_pair import ProcessPair
from torch import Tensor

from stages.learning.distributed import rank
from stages.learning.losses.detcon import detcon_loss, loss_of_rows
from stages.learning.losses.nt_xent import nt_xent

both_readings = pytest.mark.parametrize("reading", ["code", "paper"])


def one_global_mask(copies: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """z_1 and z_2 of five photos, (5, copies, 8) float64, and their ids: all 0."""
    rng = np.random.default_rng(0)
    z_1, z_2 = (torch.from_numpy(rng.normal(size=(5, 1, 8))).repeat(1, copies, 1) for _ in range(2))
    return z_1.requires_grad_(), z_2.requires_grad_(), torch.zeros(5, copies, dtype=torch.int64)


@both_readings
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(
    ("seed", "photos", "regions", "dim", "least", "most"),
    [(0, 1, 1, 3, 0, 1), (1, 1, 6, 4, 0, 2), (2, 4, 5, 6, 0, 4), (3, 3, 16, 8, 0, 9), (4, 5, 4, 5, -1, 2)],
)
def test_agrees_with_the_transcription(
    reading: str, temperature: float, seed: int, photos: int, regions: int, dim: int, least: int, most: int
):
    latents, ids = draw(seed, photos, regions, dim, least=least, most=most)

    loss = detcon_loss(*latents, *ids, temperature, reading=reading)

    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand(latents, ids, temperature, reading).item(), rel=1e-5, abs=1e-6)


@both_readings
@pytest.mark.parametrize("seed", range(3))
def test_of_float64_latents_loss_and_gradient_are_the_transcription_s_to_the_last_digits(reading: str, seed: int):
    latents, ids = draw(seed, least=-1, dtype=torch.float64)
    ours, theirs = ([x.clone().requires_grad_() for x in latents] for _ in range(2))
    loss, expected = detcon_loss(*ours, *ids, reading=reading), by_hand(tuple(theirs), ids, 0.1, reading)
    loss.backward()
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    for x, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-9, atol=1e-13)


def test_one_global_mask_is_nt_xent_summed_over_the_views():
    z_1, z_2, ids = one_global_mask()
    loss = detcon_loss(z_1, z_2, z_1, z_2, ids, ids)
    gradients = torch.autograd.grad(loss, [z_1, z_2])

    expected = nt_xent(z_1[:, 0], z_2[:, 0], 0.1)

    assert loss.item() == pytest.approx(13.92560761675, rel=1e-12)
    assert expected.item() == pytest.approx(13.92560761675, rel=1e-6)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, [z_1, z_2]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("copies", [2, 16])
def test_copies_of_a_global_mask_divide_the_gradient_of_nt_xent(copies: int):
    """(L + 2 ln R) / R: the same direction for all weights, table 4 a."""
    (one_1, one_2, ids), (z_1, z_2, many_ids) = one_global_mask(), one_global_mask(copies)
    one = detcon_loss(one_1, one_2, one_1, one_2, ids, ids)
    loss = detcon_loss(z_1, z_2, z_1, z_2, many_ids, many_ids)
    one.backward()
    loss.backward()

    assert loss.item() == pytest.approx((one.item() + 2 * math.log(copies)) / copies, rel=1e-12)
    for z, single in ((z_1, one_1), (z_2, one_2)):
        torch.testing.assert_close(z.grad.sum(dim=1, keepdim=True), single.grad / copies, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("photos", "regions"), [(1, 1), (3, 4), (2, 16)])
def test_of_equal_embeddings_every_other_latent_is_as_likely(photos: int, regions: int):
    z, ids = torch.ones(photos, regions, 7), torch.arange(regions).expand(photos, -1)
    assert detcon_loss(z, z, z, z, ids, ids).item() == pytest.approx(2 * math.log(2 * photos * regions - 1), rel=1e-6)


@both_readings
@pytest.mark.parametrize(("first", "second"), [(0, 1), (-1, 0), (-1, -1)])
def test_without_a_shared_region_there_is_exactly_nothing_to_learn(reading: str, first: int, second: int):
    latents, ids = draw(0)
    variables = [x.requires_grad_() for x in latents]
    apart = [
        2 * i + offset if offset >= 0 else torch.full_like(i, -1)
        for i, offset in zip(ids, (first, second), strict=True)
    ]
    loss = detcon_loss(*variables, *apart, reading=reading)
    loss.backward()
    assert loss.item() == 0
    assert not any(x.grad.any() for x in variables)


@both_readings
def test_a_photo_that_is_alone_and_of_one_region_costs_nothing(reading: str):
    """All that is left beside the positives is nothing: a row of masked logits."""
    z, ids = torch.randn(1, 1, 4, requires_grad=True), torch.zeros(1, 1, dtype=torch.int64)
    loss = detcon_loss(z, 2 * z, z, 3 * z, ids, ids, reading=reading)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert z.grad.abs().max() < 1e-5


@both_readings
def test_latents_of_no_region_change_nothing_wherever_they_point(reading: str):
    latents, ids = draw(4, least=-1, most=2)
    others = [torch.where(ids[n % 2][:, :, None] < 0, torch.randn_like(x), x) for n, x in enumerate(latents)]
    changed = [x.requires_grad_() for x in others]

    loss = detcon_loss(*changed, *ids, reading=reading)
    loss.backward()

    assert loss.item() == pytest.approx(detcon_loss(*latents, *ids, reading=reading).item(), rel=1e-6)
    for number, x in enumerate(changed):
        assert not x.grad[ids[number % 2] < 0].any()


@both_readings
def test_of_regions_that_are_drawn_once_the_readings_differ_in_the_negatives(reading: str):
    """Six photos at right angles, their views alike: exp(1 / t) against exp(0) of the others in one view or in both."""
    z, ids = torch.eye(6)[:, None], torch.zeros(6, 1, dtype=torch.int64)
    negatives = {"code": 10, "paper": 5}[reading]
    expected = 2 * math.log(1 + negatives * math.exp(-2))
    assert detcon_loss(z, z, z, z, ids, ids, 0.5, reading=reading).item() == pytest.approx(expected, rel=1e-5)


@both_readings
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), photos=st.integers(1, 5), regions=st.integers(1, 6), least=st.integers(-1, 0))
def test_does_not_depend_on_orders_names_or_lengths(reading: str, seed: int, photos: int, regions: int, least: int):
    (p_1, p_2, t_1, t_2), (i_1, i_2) = draw(seed, photos, regions, least=least, dtype=torch.float64)
    rng = torch.Generator().manual_seed(seed)
    expected = pytest.approx(detcon_loss(p_1, p_2, t_1, t_2, i_1, i_2, reading=reading).item(), rel=1e-9, abs=1e-12)

    def loss(*arguments: Tensor) -> float:
        return detcon_loss(*arguments, reading=reading).item()

    order = torch.randperm(photos, generator=rng)
    assert loss(*[x[order] for x in (p_1, p_2, t_1, t_2, i_1, i_2)]) == expected
    draws_1, draws_2 = (torch.randperm(regions, generator=rng) for _ in range(2))
    moved = p_1[:, draws_1], p_2[:, draws_2], t_1[:, draws_1], t_2[:, draws_2], i_1[:, draws_1], i_2[:, draws_2]
    assert loss(*moved) == expected
    assert loss(p_2, p_1, t_2, t_1, i_2, i_1) == expected
    names = torch.stack([torch.randperm(100, generator=rng)[:4] for _ in range(photos)])  # new ones in each photo
    renamed = [torch.where(i < 0, -1, names.gather(1, i.clamp(min=0).long())) for i in (i_1, i_2)]
    assert loss(p_1, p_2, t_1, t_2, *renamed) == expected
    lengths = 0.01 + 100 * torch.rand(photos, regions, 1, generator=rng, dtype=torch.float64)
    assert loss(lengths * p_1, p_2, t_1, t_2 / lengths, i_1, i_2) == expected


def lightly_loss(arguments: list[Tensor]) -> Tensor:
    loss = pytest.importorskip("lightly.loss.detcon_loss").DetConBLoss(temperature=0.1, gather_distributed=False)
    return loss(*arguments)


@pytest.mark.parametrize(("seed", "photos", "regions", "most"), [(0, 1, 1, 1), (1, 6, 16, 5), (2, 4, 8, 30)])
def test_is_the_loss_and_the_gradient_of_lightly(seed: int, photos: int, regions: int, most: int):
    """In one process, of float32 and real regions: with the code's reading there is nothing that they differ in."""
    latents, ids = draw(seed, photos, regions, most=most)
    ours, theirs = ([x.clone().requires_grad_() for x in latents] for _ in range(2))

    loss, expected = detcon_loss(*ours, *ids), lightly_loss([*theirs, *ids])
    loss.backward()
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for x, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_lightly_takes_no_region_for_one():
    latents, ids = draw(1, least=-1, most=2)
    real = [torch.where(i < 0, 5 + view, i) for view, i in enumerate(ids)]  # without -1 that match
    assert lightly_loss([*latents, *ids]) > lightly_loss([*latents, *real]) > detcon_loss(*latents, *ids)


def unit_rows(latents: tuple[Tensor, ...], temperature: float) -> tuple[Tensor, Tensor]:
    """Predictions and targets as `loss_of_rows` takes them."""
    p_1, p_2, t_1, t_2 = (F.normalize(x, dim=-1) for x in latents)
    return torch.stack([p_1, p_2], dim=1) / temperature, torch.stack([t_1, t_2], dim=1)


@both_readings
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_mean_over_processes_is_the_loss_of_all_photos(reading: str, processes: int):
    """Simulated: each process's rows against the targets of all; their gradients sum up there, as `gather` does it."""
    latents, ids = draw(7, photos=8, least=-1, dtype=torch.float64)
    whole, shares = ([x.clone().requires_grad_() for x in latents] for _ in range(2))
    expected = detcon_loss(*whole, *ids, reading=reading)
    expected.backward()

    preds, targets = unit_rows(tuple(shares), 0.1)
    own = 8 // processes
    losses = [
        loss_of_rows(preds[first : first + own], targets, torch.stack(ids, dim=1), first, reading)
        for first in range(0, 8, own)
    ]
    loss = torch.stack(losses).mean()
    loss.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for x, other in zip(shares, whole, strict=True):
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-9, atol=1e-12)


def _of_one_of_two(reading: str, negatives: str) -> tuple[Tensor, ...]:
    """Loss and gradients of this process's half of the photos, of latents that both predict and are predicted."""
    (z_1, z_2, _, _), ids = draw(7, photos=6, least=-1, dtype=torch.float64)
    z_1, z_2 = (z.chunk(2)[rank()].clone().requires_grad_() for z in (z_1, z_2))
    ids = [i.chunk(2)[rank()] for i in ids]
    loss = detcon_loss(z_1, z_2, z_1, z_2, *ids, reading=reading, negatives=negatives)
    loss.backward()
    return loss.detach(), z_1.grad, z_2.grad


@both_readings
def test_two_processes_see_each_others_targets_and_send_gradients_back(reading: str, two_processes: ProcessPair):
    """The mean over processes, which DistributedDataParallel takes, is the loss and the gradient of all photos."""
    (z_1, z_2, _, _), ids = draw(7, photos=6, least=-1, dtype=torch.float64)
    ours = [z.requires_grad_() for z in (z_1, z_2)]
    expected = detcon_loss(*ours, *ours, *ids, reading=reading)
    expected.backward()

    losses, *gradients = zip(*two_processes(_of_one_of_two, reading, "all"), strict=True)

    torch.testing.assert_close(torch.stack(losses).mean(), expected.detach(), rtol=1e-12, atol=0)
    for z, parts in zip(ours, gradients, strict=True):
        torch.testing.assert_close(torch.cat(parts) / 2, z.grad, rtol=1e-9, atol=1e-12)


def test_negatives_of_this_process_alone_make_processes_independent(two_processes: ProcessPair):
    (z_1, z_2, _, _), ids = draw(7, photos=6, least=-1, dtype=torch.float64)
    for number, (loss, *gradients) in enumerate(two_processes(_of_one_of_two, "code", "process")):
        ours = [z.chunk(2)[number].clone().requires_grad_() for z in (z_1, z_2)]
        expected = detcon_loss(*ours, *ours, *[i.chunk(2)[number] for i in ids])
        expected.backward()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
        for z, gradient in zip(ours, gradients, strict=True):
            torch.testing.assert_close(gradient, z.grad, rtol=1e-12, atol=1e-14)


@both_readings
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_under_autocast(reading: str, dtype: torch.dtype):
    latents, ids = draw(0, photos=6, regions=8, dim=64, dtype=dtype)
    expected = by_hand(latents, ids, 0.1, reading).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = detcon_loss(*latents, *ids, reading=reading)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_targets_without_gradient_leave_it_to_the_predictions():
    (p_1, p_2, t_1, t_2), ids = draw(0)
    preds = [p.requires_grad_() for p in (p_1, p_2)]
    detcon_loss(*preds, t_1, t_2, *ids).backward()
    assert all(p.grad.any() for p in preds)
    assert t_1.grad is None


@pytest.mark.parametrize("setting", ["reading", "negatives"])
def test_unknown_settings_name_the_known_ones(setting: str):
    latents, ids = draw(0)
    with pytest.raises(ValueError, match=rf"{setting} 'papers' .* Choose (code or paper|all or process)"):
        detcon_loss(*latents, *ids, **{setting: "papers"})
