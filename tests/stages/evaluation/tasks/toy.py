"""A task of a few numbers: as small as one can be that the loop can be watched at."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.data.views import view_rng
from stages.evaluation.tasks.loop import train_task
from stages.evaluation.tasks.optimizers import sgd
from stages.evaluation.tasks.schedules import cosine
from stages.report import Report


class Points:
    """12 points in three classes by the sign of what they are shifted by, drawn anew in each epoch."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Any]:
        index, epoch = sample
        x = view_rng(3, epoch, index).standard_normal(4)
        return {"x": torch.from_numpy(x).float() + index % 3, "boxes": [index % 3], "index": index}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "x": torch.stack([each["x"] for each in samples]),
            "targets": [{"class": torch.tensor(each["boxes"])} for each in samples],
        }


class Classifier(nn.Module):
    """Has all that a resume must bring back: weights, running statistics, dropout's random numbers."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.frozen = nn.BatchNorm1d(4)
        self.norm, self.dropout, self.head = nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 3)
        self.frozen.requires_grad_(False)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(3, 4, generator=generator))
            self.head.bias.zero_()
        self.steps = 0

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        self.steps += 1
        logits = self.head(self.dropout(self.norm(self.frozen(batch["x"]))))
        truth = torch.cat([target["class"] for target in batch["targets"]])
        loss = F.cross_entropy(logits, truth)
        return loss, {"accuracy": (logits.argmax(dim=1) == truth).float().mean()}


SETTINGS: dict[str, Any] = {
    "steps": 8, "batch_size": 4, "seed": 0, "device": "cpu", "workers": 0, "precision": "fp32",
    "checkpoint_minutes": 1000.0, "log_every": 1, "optimizer": partial(sgd, lr=0.1, weight_decay=1e-4),
    "schedule": partial(cosine, total=8), "settings": {"task": "toy"},
}  # fmt: skip


def run(
    out: Path, model: nn.Module | None = None, report: Report | None = None, **changes: Any
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The final weights, and the last record."""
    model = model or Classifier()
    out.mkdir(exist_ok=True)
    last = train_task(model, Points(), out=out, report=report or Report(), **(SETTINGS | changes))
    return model.state_dict(), last


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
