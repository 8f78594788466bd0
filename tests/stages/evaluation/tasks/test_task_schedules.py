"""Learning rates against hand-computed values and torch's own schedules."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from stages.evaluation.tasks.recipe import Recipe
from stages.evaluation.tasks.schedules import cosine, multi_step, polynomial

RECIPE = {
    "epochs": "28 epochs", "schedule": "drops", "drops": ("8 epochs", "16 epochs", "24 epochs"), "drop_factor": 0.1,
    "batch_size": 512, "base_lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "precision": "fp32",
    "log_every": 1, "checkpoint_minutes": 1000.0,
}  # fmt: skip


def test_drops_and_warm_up_as_detectron2_has_them():
    factor = partial(multi_step, drops=(60, 80), warmup=10)
    assert factor(0) == 1e-3
    assert factor(5) == pytest.approx(1e-3 * 0.5 + 0.5)  # alpha = 5 / 10
    assert factor(10) == factor(59) == 1
    assert factor(60) == factor(79) == pytest.approx(0.1)
    assert factor(80) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("factor", "torchs"),
    [
        (partial(multi_step, drops=(3, 7), factor=0.2),
         partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[3, 7], gamma=0.2)),
        (partial(polynomial, total=10, power=0.9),
         partial(torch.optim.lr_scheduler.PolynomialLR, total_iters=10, power=0.9)),
        (partial(cosine, total=10), partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=10)),
    ],
)  # fmt: skip
def test_the_same_as_torch(factor, torchs):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = torchs(optimizer)
    for step in range(10):
        assert 2.0 * factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        schedule.step()


def test_polynomial_ends_at_its_floor():
    assert polynomial(0, total=4, floor=0.01) == 1
    assert polynomial(4, total=4, floor=0.01) == pytest.approx(0.01)


def test_a_recipe_in_steps():
    recipe = Recipe(**RECIPE)
    assert recipe.steps(1024) == 56
    assert recipe.lr == pytest.approx(0.02)
    assert [recipe.factor(1024)(step) for step in (15, 16, 32, 48)] == pytest.approx([1, 0.1, 0.01, 0.001])
    half = Recipe(**(RECIPE | {"schedule": "cosine"})).factor(1024)
    assert half(14) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert "log_every" not in recipe.deciding()
    with pytest.raises(ValueError, match="schedule 'linear' is not known"):
        Recipe(**(RECIPE | {"schedule": "linear"})).factor(1024)
