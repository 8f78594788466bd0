"""Health of a training: norms of gradients and updates, and whether the embeddings still differ from photo to photo."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Part of a method -> (N, D) embeddings of its two views, see `stages.learning.method.Output`.
Embeddings = Mapping[str, tuple[Tensor, Tensor]]

# Share of the healthy spread below which embeddings count as collapsed.
_COLLAPSED = 0.1
# Embeddings that differ in fewer directions than this have collapsed too, provided that so many rows were looked at.
# Small demos that trained well stay above 3, untrained networks above 4; a collapse to one line is at 1.0 to 1.3.
_COLLAPSED_RANK = 2.0
_ROWS_FOR_RANK = 16


@torch.no_grad()
def health(z_1: Tensor, z_2: Tensor) -> dict[str, Tensor]:
    """How alike embeddings are, all of them scaled to length 1 first. Each figure is () and on the CPU.

    * `std`: see `embedding_std`, of view 1.
    * `effective_rank`: of the (N, D) matrix of view 1, see there. 1 when all photos point in one direction.
    * `covariance_rank`: of its (D, D) covariance over photos: in how many directions photos differ. Noise, which lifts
      `effective_rank` much, hardly counts here.
    * `positive_similarity`: mean cosine of the two views of a photo, in [-1, 1].
    * `negative_similarity`: mean cosine of view 1 of a photo and view 2 of another.

    Under several processes these are figures of this process's rows.

    Args:
        z_1, z_2: (N, D), N >= 2, any float type; row by row of the same photos.
    """
    a, b = (F.normalize(z.double(), dim=-1) for z in (z_1, z_2))
    positive = (a * b).sum()
    negative = (a.sum(dim=0) * b.sum(dim=0)).sum() - positive
    rows = len(a)
    # Singular values of the covariance are squares of those of the centred rows.
    centred = _singular_values(a - a.mean(dim=0)).square()
    figures = {
        "std": embedding_std(z_1),
        "effective_rank": effective_rank(a),
        "covariance_rank": _entropy_rank(centred),
        "positive_similarity": positive / rows,
        "negative_similarity": negative / (rows * (rows - 1)),
    }
    return {name: figure.cpu() for name, figure in figures.items()}


def healths(embeddings: Embeddings) -> dict[str, float]:
    """`health` of each part: `std` for the part "image", `std_intra` for the part "intra", and so on."""
    return {
        _figure(name, part): value.item()
        for part, views in embeddings.items()
        for name, value in health(*views).items()
    }


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


def effective_rank(matrix: Tensor) -> Tensor:
    """exp of the entropy of the singular values divided by their sum: in how many directions the rows point.

    Source: Roy and Vetterli (EUSIPCO 2007), definition 1; of embeddings: RankMe (arXiv:2210.02885), equation 1.

    Args:
        matrix: (N, D), any float type.

    Returns:
        () float64 on the CPU in [1, min(N, D)]; 1 if all entries are 0, NaN if one is not finite.
    """
    return _entropy_rank(_singular_values(matrix.detach().double()))


def _singular_values(matrix: Tensor) -> Tensor:
    """(min(N, D),) on the CPU; NaN where an entry is not finite. Those under 1e-8 of the largest are noise.

    By the eigenvalues of the smaller Gram matrix: several times faster than an SVD. It is small, so even a GPU gains
    nothing, and its solver would take memory of its own.
    """
    gram = (matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix).cpu()
    if not torch.isfinite(gram).all():
        return torch.full((len(gram),), math.nan, dtype=gram.dtype)
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()


def _entropy_rank(singular_values: Tensor) -> Tensor:
    shares = F.normalize(singular_values, p=1, dim=0)
    return torch.special.entr(shares).sum().exp()


def collapse(figures: Mapping[str, float], embeddings: Embeddings, step: int) -> str | None:
    """What a collapse is, how it was seen and what helps; None while the embeddings of every part are healthy.

    Two kinds are told apart. Complete: all photos get nearly one direction; their spread (`std`) vanishes. In
    dimension: the spread is there, but along a single line, say because batch norm keeps it up in each dimension while
    all dimensions become the same; `covariance_rank` goes to 1. Few rows have few dimensions anyhow, so the second kind
    is looked for from 16 rows on.

    Args:
        figures: what `healths` says of `embeddings`.
    """
    for part, (z, _) in embeddings.items():
        rows, dim = z.shape
        std, rank = (figures[_figure(name, part)] for name in ("std", "covariance_rank"))
        if std < _COLLAPSED * healthy_std(dim):
            seen = (
                f"the standard deviation of the normalised projections is {std:.2g}, under a tenth of the healthy "
                f"1/sqrt({dim}) = {healthy_std(dim):.2g}. All photos get nearly the same embedding"
            )
        elif rank < _COLLAPSED_RANK and rows >= _ROWS_FOR_RANK:
            seen = (
                f"the effective rank of their covariance is {rank:.2g} of at most {min(rows - 1, dim)}, under "
                f"{_COLLAPSED_RANK:.0f}. Photos differ along a single line, so most can't be told apart"
            )
        else:
            continue
        return (
            f"The embeddings (part '{part}') have collapsed at step {step}: {seen}, so a falling loss means nothing "
            "now. What helps, likeliest first: a lower base_lr, a longer warmup, tau nearer to 1 (0.996), a larger "
            "batch_size (batch norm needs 32 or more), precision 'fp32'."
        )
    return None


def _figure(name: str, part: str) -> str:
    return name if part == "image" else f"{name}_{part}"


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


def memory_mb(device: torch.device) -> float:
    """The most memory in use at once so far, in MB (10^6 bytes): tensors on a GPU, else this process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts kilobytes, and bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


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

    def aside(self, since: float) -> None:
        """The time from `since` until now went into something else (a checkpoint, a probe) and is left out of the lap.

        `seconds` counts it.
        """
        self._lap_start += time.perf_counter() - since

    def lap(self, steps: int, batch_size: int) -> dict[str, float]:
        """Speed since the last lap, which had `steps` steps of `batch_size` photos each.

        `step_seconds` is the mean time of a step, `data_seconds` how much of it was spent waiting for data, and
        `data_share` the same as a share.
        """
        now = time.perf_counter()
        duration = now - self._lap_start
        figures = {
            "images_per_second": steps * batch_size / duration,
            "step_seconds": duration / steps,
            "data_seconds": self._waited / steps,
            "data_share": self._waited / duration,
        }
        self._lap_start, self._waited = now, 0.0
        return figures
