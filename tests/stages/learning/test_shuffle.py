"""Shuffling in one process and in two: it mixes, it is undone exactly, and it depends on nothing but the step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from process_pair import ProcessPair
from torch import Tensor

from stages.learning.distributed import rank
from stages.learning.shuffle import groups_per_process, own_rows, permutation, shuffle, unshuffle


def at(step: int) -> Tensor:
    return torch.tensor(step)


@settings(max_examples=100, deadline=None)
@given(step=st.integers(0, 10**9), n=st.integers(1, 5000))
def test_a_permutation_holds_each_row_once(step: int, n: int):
    assert torch.equal(permutation(at(step), n).sort().values, torch.arange(n))


def test_a_permutation_depends_on_the_step_alone():
    torch.manual_seed(0)
    first = permutation(at(7), 64)
    torch.manual_seed(1)
    assert torch.equal(permutation(at(7), 64), first)
    assert not torch.equal(permutation(at(8), 64), first)


def test_permutations_look_random():
    """Each row lands at each place about as often, and two neighbours land in one of two halves as often as chance."""
    n, steps = 16, 4000
    where = torch.stack([permutation(at(step), n).argsort() for step in range(steps)])  # (steps, n)
    counts = torch.stack([(where == place).sum(dim=0) for place in range(n)]).float()
    chi_squared = ((counts - steps / n) ** 2 / (steps / n)).sum().item()
    assert chi_squared < 310  # (n - 1)^2 = 225 on average; 310 is the 99.99 % quantile
    together = ((where[:, :-1] < n // 2) == (where[:, 1:] < n // 2)).float().mean().item()
    assert together == pytest.approx((n // 2 - 1) / (n - 1), abs=0.01)


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 10**6), n=st.integers(1, 40))
def test_is_undone_exactly(step: int, n: int):
    images = torch.randint(0, 256, (n, 3, 2, 2), dtype=torch.uint8)
    mixed, order = shuffle(images, at(step))
    assert mixed.dtype == torch.uint8
    assert torch.equal(unshuffle(mixed, order), images)
    assert torch.equal(own_rows(unshuffle(mixed, order)), images)


def test_one_process_makes_all_groups():
    assert [groups_per_process(groups) for groups in (1, 2, 8)] == [1, 2, 8]
    with pytest.raises(ValueError, match="batch_norm_groups 0"):
        groups_per_process(0)


def _exchange() -> dict[str, object]:
    mine = torch.arange(6).view(6, 1) + 10 * rank()
    mixed, order = shuffle(mine, at(3))
    groups = [groups_per_process(groups) for groups in (1, 2, 8)]
    try:
        groups_per_process(3)
        message = ""
    except ValueError as error:
        message = str(error)
    back = unshuffle(mixed, order)
    return {"mixed": mixed, "all": back, "own": own_rows(back), "mine": mine, "groups": groups, "message": message}


def test_two_processes_exchange_rows_and_get_their_own_back(two_processes: ProcessPair):
    results = two_processes(_exchange)
    everything = torch.cat([result["mine"] for result in results])
    for result in results:
        assert torch.equal(result["all"], everything)
        assert torch.equal(result["own"], result["mine"])
        assert result["groups"] == [1, 1, 4]
        assert "batch_norm_groups 3 with 2 processes" in result["message"]
    mixed = torch.cat([result["mixed"] for result in results])
    assert torch.equal(mixed, everything[permutation(at(3), 12)])
    assert 0 < (results[0]["mixed"] >= 10).sum() < 6  # process 0 got rows of both
