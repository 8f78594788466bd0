"""Features of regions: averages of a feature map under masks."""

from __future__ import annotations

import torch
from torch import Tensor


def pool_regions(feature_map: Tensor, masks: Tensor) -> Tensor:
    """h_m = sum_ij m_ij h_ij / sum_ij m_ij, in float32 at least.

    Source: DetCon (arXiv:2103.10957), section 3.1, "Architecture".

    Args:
        feature_map: (N, C, h, w) any float type.
        masks: (N, R, h, w) weights of the map's cells, at least 0, any scale; a mask of ones is global average pooling.

    Returns:
        (N, R, C); 0 under a mask that is 0 everywhere.

    Raises:
        ValueError: masks and map differ in their cells or in the number of photos.
    """
    (n, _, h, w), (n_masks, _, h_masks, w_masks) = feature_map.shape, masks.shape
    if (n, h, w) != (n_masks, h_masks, w_masks):
        raise ValueError(
            f"masks of {n_masks} views in {w_masks} x {h_masks} cells for feature maps of {n} views in {w} x {h}: each "
            "view needs masks in the cells of its map. Make them for this backbone and this size of views."
        )
    with torch.autocast(feature_map.device.type, enabled=False):
        weights = masks.to(torch.promote_types(feature_map.dtype, torch.float32))
        total = weights.sum(dim=(2, 3), keepdim=True)
        weights = weights / torch.where(total > 0, total, 1)
        return torch.einsum("nrhw,nchw->nrc", weights, feature_map.to(weights.dtype))
