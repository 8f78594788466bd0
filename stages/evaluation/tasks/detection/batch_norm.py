"""Statistics of batch norms, measured again with the final weights ("precise batch norm", Wu and Johnson 2021,
arXiv:2105.07576, section 3).

While a detector trains, the running statistics follow weights that move, over batches of a few photos. Detectron2
therefore measures them anew before it tests (TEST.PRECISE_BN, on in the configurations of MoCo, InfoMin and ORL).
"""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from stages.data.loading import EpochStream
from stages.data.workers import make_loader
from stages.evaluation.tasks.detection.detectors import Detector
from stages.evaluation.tasks.detection.photos import TrainingPhotos
from stages.evaluation.tasks.loop import moved
from stages.learning.distributed import rank, world_size


@torch.no_grad()
def measure_statistics(
    detector: Detector, data: TrainingPhotos, *, batches: int, batch_size: int, steps: int, seed: int, workers: int
) -> None:
    """Sets the running means and variances of all batch norms that were trained to their means over `batches` batches.

    Args:
        batches: at least 1.
        batch_size, steps, seed: of the training; the batches are those that would have come next.
    """
    norms = [each for each in detector.train().modules() if isinstance(each, _BatchNorm) and each.training]
    usual = [norm.momentum for norm in norms]
    stream = EpochStream(
        len(data), seed=seed, batch_size=batch_size, first_step=steps, last_step=steps + batches,
        processes=world_size(), rank=rank(),
    )  # fmt: skip
    order = [[(index, epoch) for epoch, index in batch] for batch in stream]
    device = next(detector.parameters()).device
    torch.manual_seed(seed + rank())  # for the regions that are drawn
    for number, batch in enumerate(make_loader(data, workers, batch_sampler=order, collate_fn=data.collate), start=1):  # type: ignore[arg-type]
        for norm in norms:
            norm.momentum = 1 / number  # so that all batches weigh the same
        detector(moved(batch, device))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
