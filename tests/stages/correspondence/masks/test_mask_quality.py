"""Average best overlap against a transcription of its definition."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from stages.correspondence.masks.quality import MaskQuality
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, MaskStack, Segmentation, runs_of_mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def around(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def rectangle(photo: Catalog, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    mask = np.zeros(photo.sizes[0][::-1], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def row(mask: np.ndarray, category: int, crowd: bool = False, outlined: bool = True) -> dict:
    (y0, x0), (y1, x1) = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
    counts = np.diff(np.flatnonzero(np.diff(mask.T.reshape(-1).astype(int), prepend=0, append=0)), prepend=0).tolist()
    counts.append(mask.size - sum(counts))
    segmentation = json.dumps({"size": list(mask.shape), "counts": counts}) if outlined else None
    return {"image": 0, "category": category, "x0": float(x0), "y0": float(y0), "x1": float(x1), "y1": float(y1),
            "crowd": crowd, "difficult": False, "segmentation": segmentation}  # fmt: skip


@pytest.fixture
def regions(photo_catalog: Catalog) -> np.ndarray:
    """A layer of regions, each (H, W) bool."""
    width, height = photo_catalog.sizes[0].tolist()
    labels = np.add.outer(np.arange(height) // 30 * 100, np.arange(width) // 40)
    return np.stack([labels == each for each in np.unique(labels)])


def both_kinds(regions: np.ndarray, size: tuple[int, int]) -> list[Segmentation]:
    labels = regions.argmax(axis=0) * 3  # labels with gaps
    return [
        LabelMaps(size, [labels]),
        MaskStack(size, [runs_of_mask(mask) for mask in regions], np.ones(len(regions), np.float32)),
    ]


def test_figures_are_those_of_the_definition(photo_catalog: Catalog, regions: np.ndarray) -> None:
    objects = [rectangle(photo_catalog, 5, 50, 10, 90), rectangle(photo_catalog, 31, 60, 40, 78)]
    objects += [rectangle(photo_catalog, 60, 100, 0, 200)]
    objects[0][:20, :30] = False
    table = pd.DataFrame([row(mask, category) for mask, category in zip(objects, (4, 2, 4), strict=True)])
    crowd = row(rectangle(photo_catalog, 0, 5, 0, 5), 1, crowd=True)
    table = pd.concat([table, pd.DataFrame([crowd])])
    best = [max(iou(mask, region) for region in regions) for mask in objects]
    of_classes = [max(iou(mask, region) for region in regions) for mask in (objects[0] | objects[2], objects[1])]
    for segmentation in both_kinds(regions, tuple(photo_catalog.sizes[0].tolist())):
        quality = MaskQuality(1)
        quality.add(segmentation, table, photo_catalog, 0)
        figures = quality.metrics(["only"])
        assert figures == pytest.approx({
            "mask_objects": 3, "mask_abo": np.mean(best), "mask_recovery": np.mean(np.array(best) > 0.5),
            "class_mask_objects": 2, "class_mask_abo": np.mean(of_classes),
            "class_mask_recovery": np.mean(np.array(of_classes) > 0.5),
        })  # fmt: skip


def test_objects_without_masks_are_compared_by_boxes(photo_catalog: Catalog, regions: np.ndarray) -> None:
    tilted = np.eye(60, dtype=bool)
    region = rectangle(photo_catalog, 0, 0, 0, 0)
    region[10:70, 20:80] = tilted
    regions = np.stack([region, ~region])
    boxes = [rectangle(photo_catalog, 8, 66, 25, 81)]
    table = pd.DataFrame([row(mask, 0, outlined=False) for mask in boxes])
    best = [max(iou(mask, around(each)) for each in regions) for mask in boxes]
    for segmentation in both_kinds(regions, tuple(photo_catalog.sizes[0].tolist())):
        quality = MaskQuality(1)
        quality.add(segmentation, table, photo_catalog, 0)
        assert quality.metrics([]) == pytest.approx({"box_objects": 1, "box_abo": np.mean(best), "box_recovery": 1.0})


def test_layers_are_measured_apart_and_together_and_photos_add_up(photo_catalog: Catalog) -> None:
    width, height = photo_catalog.sizes[0].tolist()
    halves = [np.arange(2)[:, None], np.arange(2)[None]]  # above and below, left and right
    left = pd.DataFrame([row(rectangle(photo_catalog, 0, height, 0, width // 2), 0)])
    quality, other = MaskQuality(2), MaskQuality(2)
    quality.add(LabelMaps((width, height), halves), left, photo_catalog, 0)
    other.add(LabelMaps((width, height), halves[::-1]), left, photo_catalog, 0)
    assert quality.metrics(["a", "b"])["mask_abo_b"] == pytest.approx(1, abs=0.01)
    quality.merge(vars(other))
    figures = quality.metrics(["a", "b"])
    assert figures["mask_objects"] == 2
    assert figures["mask_abo"] == pytest.approx(1, abs=0.01)
    assert figures["mask_abo_a"] == figures["mask_abo_b"] == pytest.approx((1 + 1 / 3) / 2, abs=0.01)
    assert figures["mask_recovery_a"] == 0.5


def test_a_damaged_outline_names_the_photo(photo_catalog: Catalog, regions: np.ndarray) -> None:
    table = pd.DataFrame([row(rectangle(photo_catalog, 0, 9, 0, 9), 0) | {"segmentation": '{"size": [1, 2]}'}])
    segmentation = both_kinds(regions, tuple(photo_catalog.sizes[0].tolist()))[0]
    with pytest.raises(ValueError, match=photo_catalog.place(0)):
        MaskQuality(1).add(segmentation, table, photo_catalog, 0)
