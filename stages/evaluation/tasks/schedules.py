"""Learning rates of the published protocols, as factors of the base rate. Pure functions of the step, so that a resume
is exact; `functools.partial` makes the `schedule` of `train_task` of one: `partial(polynomial, total=20_000)`.

How long a training is, is said by `stages.learning.schedules.steps`: "28 epochs", "90000 steps".
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def multi_step(
    step: int, *, drops: Sequence[int], factor: float = 0.1, warmup: int = 0, warmup_start: float = 1e-3
) -> float:
    """Multiplied by `factor` at each of `drops`; in the first `warmup` steps it rises linearly from `warmup_start`.

    The warm-up multiplies the drops, and starts at 0.001 as in Detectron2 (WarmupMultiStepLR), which the detection
    protocols are written in.

    Args:
        step: k, steps already taken.
        drops: steps from which on one `factor` more counts.
        warmup: in steps; 0 for none.
    """
    warm = warmup_start + (1 - warmup_start) * step / warmup if step < warmup else 1.0
    return warm * factor ** sum(step >= drop for drop in drops)


def polynomial(step: int, *, total: int, power: float = 0.9, floor: float = 0.0) -> float:
    """(1 - floor) (1 - k / K)^power + floor: "poly" of the segmentation protocols (Chen et al., arXiv:1606.00915,
    section 4.1; with `floor` as in MMSegmentation, whose `min_lr` is floor times the base rate).

    Args:
        step: k in [0, K). total: K, in steps. floor: the factor at the end, as a share of the base rate.
    """
    return (1 - floor) * (1 - step / total) ** power + floor


def cosine(step: int, *, total: int) -> float:
    """From 1 to 0 along half a cosine, no restart (Loshchilov and Hutter, arXiv:1608.03983, equation 5).

    Args:
        step: k in [0, K). total: K, in steps.
    """
    return (1 + math.cos(math.pi * step / total)) / 2
