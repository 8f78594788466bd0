"""Health of a training: norms of gradients and updates, and whether the embeddings still differ from photo to photo."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Share of the healthy spread below which embeddings count as collapsed.
_COLLAPSED = 0.1


def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of unit-length embeddings: the standard deviation of each dimension over the batch, averaged.

    Near 1 / sqrt(D) when the directions are spread evenly, near 0 when all photos get the same one.
    Source: SimSiam (Chen and He, arXiv:2011.10566), section 4.1 and figure 2.

    Args:
        embeddings: (N, D), any float type; normalised here, no gradient.

    Returns:
        () float32 in [0, 1 / sqrt(D)].
    """
    return F.normalize(embeddings.detach().float(), dim=-1).std(dim=0, correction=0).mean()


def healthy_std(dim: int) -> float:
    """`embedding_std` of directions that are spread evenly over `dim` dimensions."""
    return 1 / math.sqrt(dim)


def is_collapsed(std: float, dim: int) -> bool:
    return std < _COLLAPSED * healthy_std(dim)


def collapse_warning(std: float, dim: int, step: int) -> str:
    """What a collapse is, how it was seen, and what helps."""
    return (
        f"The embeddings have collapsed at step {step}: the standard deviation of the normalised projections is "
        f"{std:.2g}, under a tenth of the healthy 1/sqrt({dim}) = {healthy_std(dim):.2g}. All photos get nearly the "
        "same embedding, so a falling loss means nothing now. What helps, likeliest first: a lower base_lr, a longer "
        "warmup, tau nearer to 1 (0.996), a larger batch_size (batch norm needs 32 or more), precision 'fp32'."
    )


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """L2 norm of all gradients together, () float32. Not finite when any gradient is not."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def snapshot(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Copies of the parameters, to be given to `update_norm` after a step."""
    return [parameter.detach().clone() for parameter in parameters]


def update_norm(before: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> float:
    """Length of a step relative to the weights it started from: ||theta' - theta|| / ||theta||."""
    change = torch._foreach_sub([parameter.detach() for parameter in parameters], list(before))
    return (torch.nn.utils.get_total_norm(change) / torch.nn.utils.get_total_norm(before)).item()


class Stopwatch:
    """Time spent training, and how much of it was spent waiting for data. `seconds`: what former attempts took."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._start = time.perf_counter() - seconds
        self._lap_start = time.perf_counter()
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        """All attempts together, until now."""
        return time.perf_counter() - self._start

    def waited(self, since: float) -> None:
        """The time from `since` (`time.perf_counter()`) until now was spent waiting for data."""
        self._waited += time.perf_counter() - since

    def lap(self, images: int) -> dict[str, float]:
        """Speed and share of time spent waiting for data since the last lap, in which `images` photos were seen."""
        now = time.perf_counter()
        duration = now - self._lap_start
        figures = {"images_per_second": images / duration, "data_share": self._waited / duration}
        self._lap_start, self._waited = now, 0.0
        return figures
