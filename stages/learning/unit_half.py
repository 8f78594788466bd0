"""How embeddings are stored: rows of length 1 in half precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def unit_half(features: Tensor) -> np.ndarray:
    """L2-normalised rows as float16, so that a dot product of two rows is their cosine similarity.

    float16 resolves entries of such rows to 0.0005 of their size or better; similarities keep about four digits.

    Args:
        features: (N, C), any float type, on any device.

    Raises:
        ValueError: an entry is NaN or infinite.
    """
    if not torch.isfinite(features).all():
        raise ValueError(
            "the encoder yields NaN or infinite features, so nothing can be compared. Its training diverged: "
            "train it again with a lower base_lr or a longer warm-up."
        )
    return F.normalize(features.float(), dim=1).half().cpu().numpy()
