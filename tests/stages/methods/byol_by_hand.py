"""BYOL written a second time, from the paper's formulas and in the plainest PyTorch, to test the methods against."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.learning.encoder import Encoder

BATCH_NORM_EPS = 1e-5


def tiny_encoder(seed: int) -> Encoder:
    torch.manual_seed(seed)
    return Encoder("test_resnet", projector_hidden=16, projector_out=8)


def views(seed: int, *names: str, n: int = 6, side: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator) for name in names}


def head(layers: nn.Module, x: Tensor) -> Tensor:
    """Linear, batch norm by the batch's own statistics, ReLU, linear without bias."""
    weights = dict(layers.named_parameters())
    hidden = x @ weights["0.weight"].T + weights["0.bias"]
    mean = hidden.mean(dim=0)
    variance = ((hidden - mean) ** 2).mean(dim=0)
    hidden = weights["1.weight"] * (hidden - mean) / torch.sqrt(variance + BATCH_NORM_EPS) + weights["1.bias"]
    return torch.where(hidden > 0, hidden, torch.zeros(())) @ weights["3.weight"].T


def project(encoder: Encoder, images: Tensor) -> Tensor:
    feature_map = encoder.backbone(images)
    return head(encoder.projector, feature_map.flatten(2).sum(2) / feature_map[0, 0].numel())


def distance(q: Tensor, z: Tensor) -> Tensor:
    """BYOL, equation 2, averaged over the batch."""
    unit_q = q / (q**2).sum(dim=1, keepdim=True).sqrt()
    unit_z = z / (z**2).sum(dim=1, keepdim=True).sqrt()
    return ((unit_q - unit_z) ** 2).sum() / len(q)


def symmetric_loss(online: Encoder, target: Encoder, predictor: nn.Module, view_1: Tensor, view_2: Tensor) -> Tensor:
    loss_12 = distance(head(predictor, project(online, view_1)), project(target, view_2).detach())
    loss_21 = distance(head(predictor, project(online, view_2)), project(target, view_1).detach())
    return loss_12 + loss_21


def sgd_step(module: nn.Module, lr: float) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data - lr * parameter.grad


def ema_step(target: nn.Module, online: nn.Module, tau: float) -> None:
    for xi, theta in zip(target.parameters(), online.parameters(), strict=True):
        xi.data = tau * xi.data + (1 - tau) * theta.data
