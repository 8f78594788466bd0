"""Part (a): time of a training step of each object-level objective beside its base, with the data left out.

A step: forward of all views, loss, backward, optimizer, moving average. Heads and objectives are those of the papers,
from the recipes of the configuration; all have the same SGD. Regions are drawn at random, as many as DetCon's paper
draws. The sides of ORL's views are to each other as 96 to 224.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.rounds import alternate, summary
from benchmarks.step import finished, training_step
from stages.config.recipes import Byol, DetconB, DetconS, Orl, Projector, Recipe, Simclr
from stages.learning.backbones import Backbone
from stages.learning.devices import resolve_precision
from stages.learning.encoder import Encoder
from stages.methods.byol import BYOL
from stages.methods.detcon import DetConB, DetConS
from stages.methods.orl import ORL
from stages.methods.simclr import SimCLR

# Name -> the class and its recipe.
METHODS: dict[str, tuple[Any, Recipe]] = {
    "simclr": (SimCLR, Simclr()),
    "detcon_s": (DetConS, DetconS()),
    "byol": (BYOL, Byol()),
    "detcon_b": (DetConB, DetconB()),
    "orl": (ORL, Orl()),
}
_WARMUP = 2


class Limit(NamedTuple):
    """How many times the step of its `base` a step of `ours` may take, and by which `source`."""

    ours: str
    base: str
    times: float
    source: str


class Case(NamedTuple):
    """A backbone, side of the two views in pixels, photos in a batch."""

    backbone: str
    size: int
    batch: int

    @property
    def patch(self) -> int:
        """Side of ORL's patches: 96 at 224."""
        return round(self.size * Orl().patch_size / Orl().global_size)

    @property
    def orl_pixels(self) -> float:
        """Pixels of ORL's six views as times those of BYOL's two: 1.37 at 224."""
        return 1 + 2 * self.patch**2 / self.size**2

    def limits(self) -> list[Limit]:
        return [
            Limit("detcon_s", "simclr", 1.053 + 0.05, "DetCon, section 3.1: 5.3 %; and 5 points"),
            Limit("detcon_b", "byol", 1.116 + 0.05, "DetCon, section 3.1: 11.6 %; and 5 points"),
            Limit("orl", "byol", 1.1 * self.orl_pixels, "the ratio of pixels; and 10 %"),
        ]


CASES = {
    # Not smaller: then a pass takes as long as reading the weights, and ORL has six of them to BYOL's two.
    "cpu": [Case("resnet18", 128, 64), Case("resnet50", 224, 32)],
    "cuda": [Case("resnet50", 224, 128)],
}
QUICK_CASES = [Case("test_resnet", 64, 4)]


def measure(cases: list[Case], device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds of a step by method, and each object-level one as times its base, by case, as JSON values."""
    precision = resolve_precision("auto", device)[0]
    return {
        f"{case.backbone} {case.size}px batch {case.batch} {precision}": _measure(case, precision, device, rounds)
        for case in cases
    }


def _measure(case: Case, precision: str, device: torch.device, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    ways = {
        name: finished(training_step(make(name, case), inputs(name, case, device), precision, device), device)
        for name in METHODS
    }
    seconds = alternate(ways, rounds, warmup=_WARMUP)
    compared = {}
    for ours, base, limit, source in case.limits():
        times = summary(seconds[ours] / seconds[base])
        compared[f"{ours} over {base}"] = {"times": times, "limit": limit, "source": source,
                                           "holds": times["median"] <= limit}  # fmt: skip
    return {
        "seconds": {name: summary(taken) for name, taken in seconds.items()},
        "compared": compared,
        "orl_pixels": case.orl_pixels,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
    }


def make(name: str, case: Case) -> Any:
    method, recipe = METHODS[name]
    return method(Encoder(case.backbone, **recipe.part(Projector)), **recipe.objective())


def inputs(name: str, case: Case, device: torch.device) -> dict[str, Tensor]:
    """A batch as the method's data workers make it."""
    views = {f"view_{number}": _pictures(case.batch, case.size, device) for number in (1, 2)}
    if name == "orl":
        return views | {f"{part}_{number}": _pictures(case.batch, case.patch, device)
                        for part in ("intra", "inter") for number in (1, 2)}  # fmt: skip
    recipe = METHODS[name][1]
    if isinstance(recipe, DetconB | DetconS):
        cells = Backbone(case.backbone).map_side(case.size)
        for view in tuple(views):
            ids = torch.randint(recipe.regions, (case.batch, recipe.regions), device=device, dtype=torch.int32)
            owner = torch.randint(recipe.regions, (case.batch, 1, cells, cells), device=device)
            views |= {f"{view}_masks": (owner == ids[:, :, None, None]).float(), f"{view}_ids": ids}
    return views


def _pictures(batch: int, size: int, device: torch.device) -> Tensor:
    return torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=device)
