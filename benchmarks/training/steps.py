"""Part (b): time of a training step, ours beside one made of lightly's modules as its examples put them together.

A step: forward of both views, loss, backward, optimizer, moving average. Both sides have the same timm backbone, width
of heads, precision, SGD and uint8 batch. Both normalise its pixels within the step: ours in the network, lightly's
before it (in a training with lightly its data workers do that). `lightly_tuned` is lightly with what our loop has
besides, and its examples have not: channels_last, the fused SGD, cuDNN's search for the fastest kernels.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import timm
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from benchmarks.rounds import alternate, summary
from benchmarks.step import SGD, Step, finished, training_step
from stages.learning.backbones import IMAGENET_MEAN, IMAGENET_STD
from stages.learning.devices import autocast, deterministic, resolve_precision
from stages.learning.encoder import Encoder
from stages.methods.byol import BYOL
from stages.methods.simclr import SimCLR

METHODS = ("byol", "simclr")
_TAU = 0.996
_TEMPERATURE = 0.1
# Hidden and output width of the projector, as both papers have it.
_WIDTHS = {"byol": (4096, 256), "simclr": (2048, 128)}
_WARMUP = 2


class Case(NamedTuple):
    """A timm backbone, side of the two views in pixels, photos in a batch."""

    backbone: str
    size: int
    batch: int


CASES = {
    "cpu": [Case("resnet18", 64, 64), Case("resnet50", 96, 16)],
    "cuda": [Case("resnet50", 224, 128)],
}
QUICK_CASES = [Case("test_resnet", 32, 4)]


def measure(cases: list[Case], device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds a step and ratios by case, method and precision, as JSON values."""
    precisions = sorted({"fp32", resolve_precision("auto", device)[0]}, reverse=True)
    figures: dict[str, Any] = {}
    for case in cases:
        for method in METHODS:
            for precision in precisions:
                name = f"{method} {case.backbone} {case.size}px batch {case.batch} {precision}"
                figures[name] = _measure(method, case, precision, device, rounds)
    return figures


def our_method(method: str, backbone: str) -> BYOL | SimCLR:
    hidden, out = _WIDTHS[method]
    if method == "byol":
        encoder = Encoder(backbone, projector_hidden=hidden, projector_out=out)
        return BYOL(encoder, predictor_hidden=hidden, tau=_TAU)
    encoder = Encoder(backbone, projector_hidden=hidden, projector_out=out, projector_norm="all")
    return SimCLR(encoder, temperature=_TEMPERATURE)


class LightlyBYOL(nn.Module):
    """Networks of BYOL, of lightly's parts."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        hidden, out = _WIDTHS["byol"]
        self.backbone = timm.create_model(backbone, num_classes=0)
        self.projection_head = BYOLProjectionHead(self.backbone.num_features, hidden, out)
        self.prediction_head = BYOLPredictionHead(out, hidden, out)
        self.momentum_backbone = copy.deepcopy(self.backbone)
        self.momentum_head = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.momentum_backbone)
        deactivate_requires_grad(self.momentum_head)
        self.criterion = NegativeCosineSimilarity()

    def follow(self) -> None:
        update_momentum(self.backbone, self.momentum_backbone, m=_TAU)
        update_momentum(self.projection_head, self.momentum_head, m=_TAU)

    def forward(self, view_1: Tensor, view_2: Tensor) -> Tensor:
        predictions = [self.prediction_head(self.projection_head(self.backbone(view))) for view in (view_1, view_2)]
        with torch.no_grad():
            targets = [self.momentum_head(self.momentum_backbone(view)) for view in (view_1, view_2)]
        return 0.5 * (self.criterion(predictions[0], targets[1]) + self.criterion(predictions[1], targets[0]))


class LightlySimCLR(nn.Module):
    """Network of SimCLR, of lightly's parts."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, num_classes=0)
        self.projection_head = SimCLRProjectionHead(self.backbone.num_features, *_WIDTHS["simclr"])
        self.criterion = NTXentLoss(temperature=_TEMPERATURE)

    def follow(self) -> None:
        """Nothing follows."""

    def forward(self, view_1: Tensor, view_2: Tensor) -> Tensor:
        return self.criterion(*(self.projection_head(self.backbone(view)) for view in (view_1, view_2)))


_LIGHTLY = {"byol": LightlyBYOL, "simclr": LightlySimCLR}


def lightly_step(method: Any, views: tuple[Tensor, Tensor], precision: str, *, tuned: bool) -> Step:
    device = views[0].device
    layout = torch.channels_last if tuned else torch.contiguous_format
    method.train().to(device, memory_format=layout)
    optimizer = torch.optim.SGD(method.parameters(), **SGD, fused=True if tuned else None)

    def step() -> None:
        inputs = [
            F.normalize(F.to_dtype(view, torch.float32, scale=True), IMAGENET_MEAN, IMAGENET_STD, inplace=True)
            for view in views
        ]
        method.follow()
        with autocast(precision, device):
            loss = method(*(view.contiguous(memory_format=layout) for view in inputs))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def tuned_step() -> None:
        with deterministic(device):
            step()

    return tuned_step if tuned else step


def random_views(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    first, second = torch.randint(256, (2, case.batch, 3, case.size, case.size), dtype=torch.uint8, device=device)
    return first, second


def _measure(method: str, case: Case, precision: str, device: torch.device, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    views = random_views(case, device)
    ours, theirs = our_method(method, case.backbone), _LIGHTLY[method](case.backbone)
    ways = {
        "ours": training_step(ours, {"view_1": views[0], "view_2": views[1]}, precision, device),
        "lightly": lightly_step(theirs, views, precision, tuned=False),
        "lightly_tuned": lightly_step(copy.deepcopy(theirs), views, precision, tuned=True),
    }
    seconds = alternate({name: finished(step, device) for name, step in ways.items()}, rounds, warmup=_WARMUP)
    return {
        "seconds": {name: summary(taken) for name, taken in seconds.items()},
        "times_as_fast": {
            f"ours vs {name}": summary(seconds[name] / seconds["ours"]) for name in ("lightly", "lightly_tuned")
        },
        "trained_parameters": {"ours": _trained(ours), "lightly": _trained(theirs)},
        "threads": torch.get_num_threads(),
        "rounds": rounds,
    }


def _trained(method: nn.Module) -> int:
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
