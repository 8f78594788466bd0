"""Health figures against what they claim to measure, and the alarm: it goes off at collapses and at nothing else."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.learning import metrics
from stages.learning.encoder import Encoder
from stages.learning.heads import Norm

CPU = torch.device("cpu")


def alarm(z: Tensor, part: str = "image") -> str | None:
    embeddings = {part: (z, z)}
    return metrics.collapse(metrics.healths(embeddings), embeddings, step=1200)


def test_spread_of_even_directions_is_one_over_root_d():
    torch.manual_seed(0)
    std = metrics.embedding_std(3 * torch.randn(4096, 64)).item()
    assert std == pytest.approx(metrics.healthy_std(64), rel=0.01) == pytest.approx(1 / 8, rel=0.01)


@pytest.mark.parametrize("shape", [(16, 5), (6, 40)])
def test_all_figures_agree_with_numpy(shape: tuple[int, int]):
    rng = np.random.default_rng(0)
    z_1, z_2 = (rng.normal(1.0, 1.0, size=shape) for _ in range(2))
    figures = metrics.healths({"image": (torch.from_numpy(z_1), torch.from_numpy(z_2))})

    a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z_1, z_2))
    cosines = a @ b.T
    others = ~np.eye(len(a), dtype=bool)
    assert figures["std"] == pytest.approx(a.std(axis=0).mean(), rel=1e-5)
    assert figures["positive_similarity"] == pytest.approx(cosines.diagonal().mean(), rel=1e-9)
    assert figures["negative_similarity"] == pytest.approx(cosines[others].mean(), rel=1e-9)
    assert figures["effective_rank"] == pytest.approx(effective_rank_by_hand(a), rel=1e-5)
    assert figures["covariance_rank"] == pytest.approx(effective_rank_by_hand(np.cov(a.T)), rel=1e-5)


def effective_rank_by_hand(matrix: np.ndarray) -> float:
    """Roy and Vetterli (2007), definition 1."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    shares = shares[shares > 1e-14]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def test_effective_rank_of_orthogonal_rows_is_their_number():
    assert metrics.effective_rank(3 * torch.eye(7, 20)).item() == pytest.approx(7, rel=1e-6)
    assert metrics.effective_rank(torch.ones(7, 20)).item() == pytest.approx(1, rel=1e-6)
    assert metrics.effective_rank(torch.zeros(7, 20)).item() == pytest.approx(1, rel=1e-6)


def test_numbers_that_are_not_finite_give_nan_and_no_error():
    z = torch.randn(8, 4)
    z[3, 2] = math.inf
    figures = metrics.health(z, z)
    assert math.isnan(figures["effective_rank"])
    assert math.isnan(figures["covariance_rank"])


def test_each_part_has_its_own_figures_and_any_float_type_will_do():
    z = torch.randn(8, 4)
    figures = metrics.healths({"image": (z, z), "intra": (z.bfloat16(), z.bfloat16())})
    assert figures["positive_similarity"] == pytest.approx(1)
    assert figures["std_intra"] == pytest.approx(figures["std"], rel=0.01)
    assert len(figures) == 10


def test_one_direction_for_all_is_a_collapse_whatever_the_lengths():
    torch.manual_seed(0)
    direction = torch.randn(1, 64)
    assert alarm((torch.rand(8, 1) + 0.1) * direction)
    assert alarm(direction + 0.02 * torch.randn(8, 64)), "and a little noise hides nothing"
    assert alarm(torch.zeros(8, 64))
    assert alarm(torch.rand(8, 1) * direction, part="intra")


def test_a_single_line_is_a_collapse_although_the_spread_is_healthy():
    torch.manual_seed(0)
    z = torch.where(torch.rand(32, 1) < 0.5, 1.0, -1.0) * torch.randn(1, 64) + 0.1 * torch.randn(32, 64)
    figures = metrics.healths({"image": (z, z)})
    assert figures["std"] > 0.7 * metrics.healthy_std(64)
    assert figures["effective_rank"] > 4, "noise lifts it, which is why the alarm asks for the covariance"
    text = alarm(z)
    assert text is not None
    assert "effective rank of their covariance" in text


@pytest.mark.parametrize("rows", [2, 3, 4, 8, 15])
def test_few_rows_are_no_collapse(rows: int):
    torch.manual_seed(0)
    for dim in (2, 8, 256):
        assert alarm(torch.randn(rows, dim)) is None


@pytest.mark.parametrize("rows", [16, 32, 256])
def test_clusters_are_no_collapse(rows: int):
    """Photos of four kinds, told apart by kind alone: poor, yet trained."""
    torch.manual_seed(0)
    z = torch.randn(4, 64)[torch.arange(rows) % 4] + 0.05 * torch.randn(rows, 64)
    assert alarm(z) is None


@pytest.mark.parametrize("norm", ["hidden", "all", "none"])
@pytest.mark.parametrize("rows", [4, 16])
def test_an_untrained_network_is_no_collapse(norm: Norm, rows: int, photo_views: Tensor):
    torch.manual_seed(0)
    encoder = Encoder("test_resnet", projector_hidden=32, projector_out=16, projector_norm=norm).train()
    assert alarm(encoder(photo_views[:rows])) is None


def test_a_training_without_negatives_or_target_sets_the_alarm_off(photo_views: Tensor):
    """A network that only pulls views together collapses to a line where batch norm keeps up the spread."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 64), nn.BatchNorm1d(64), nn.ReLU())
    net.extend([nn.Linear(64, 32), nn.BatchNorm1d(32, affine=False)])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    x = F.avg_pool2d(photo_views.float(), 4) / 255
    for _ in range(400):
        z_1, z_2 = net(x + 0.5 * torch.randn_like(x)), net(x + 0.5 * torch.randn_like(x))
        optimizer.zero_grad()
        (-F.cosine_similarity(z_1, z_2).mean()).backward()
        optimizer.step()
    assert metrics.embedding_std(z_1) > 0.9 * metrics.healthy_std(32)
    text = alarm(z_1.detach())
    assert text is not None
    assert "single line" in text


@pytest.fixture(scope="module")
def photo_views(photos_dir) -> Tensor:
    """(16, 3, 32, 32) uint8: two crops of each of eight photos."""
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    views = []
    for path in sorted(photos_dir.rglob("*.jpg")):
        with Image.open(path) as photo:
            views += [photo.crop(box).resize((32, 32)) for box in ((0, 0, 100, 100), (60, 40, 200, 160))]
    return torch.stack([pil_to_tensor(view) for view in views])


def test_the_warning_gives_the_value_the_rule_and_remedies():
    text = alarm(torch.ones(8, 256) + 0.01 * torch.randn(8, 256), part="intra")
    assert text is not None
    for part in ("part 'intra'", "step 1200", "1/sqrt(256)", "0.062", "base_lr", "tau", "batch_size"):
        assert part in text


def test_gradient_norm_covers_all_parameters_and_shows_what_is_not_finite():
    net = nn.Linear(2, 1)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert metrics.gradient_norm(net.parameters()).item() == pytest.approx(5.0)
    net.bias.grad = torch.tensor([math.nan])
    assert math.isnan(metrics.gradient_norm(net.parameters()).item())
    net.bias.grad = torch.tensor([math.inf])
    assert math.isinf(metrics.gradient_norm(net.parameters()).item())


def test_update_norm_is_relative_to_the_weights_before():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    before = metrics.snapshot([weight])
    with torch.no_grad():
        weight += torch.tensor([0.0, 0.5])
    assert metrics.update_norm(before, [weight]) == pytest.approx(0.1)


def test_memory_counts_this_process():
    before = metrics.memory_mb(CPU)
    assert 20 < before < 100_000
    held = np.ones(40_000_000, dtype=np.uint8)
    assert before <= metrics.memory_mb(CPU) <= before + 2 * held.nbytes / 1e6


def test_stopwatch_counts_former_attempts_and_starts_each_lap_anew():
    watch = metrics.Stopwatch(100.0)
    time.sleep(0.05)
    waiting_since = time.perf_counter()
    time.sleep(0.05)
    watch.waited(waiting_since)
    lap = watch.lap(steps=5, batch_size=2)
    assert watch.seconds >= 100.1
    assert lap["step_seconds"] >= 0.02
    assert lap["images_per_second"] == pytest.approx(2 / lap["step_seconds"])
    assert lap["data_seconds"] == pytest.approx(lap["data_share"] * lap["step_seconds"])
    assert 0 < lap["data_share"] < 1
    assert watch.lap(steps=1, batch_size=2)["data_share"] == 0


def test_stopwatch_leaves_out_what_is_no_training():
    watch = metrics.Stopwatch()
    since = time.perf_counter()
    time.sleep(0.2)
    watch.aside(since)
    assert watch.lap(steps=1, batch_size=1)["step_seconds"] < 0.1
    assert watch.seconds >= 0.2
