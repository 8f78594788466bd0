"""Object discovery: how well regions or boxes that know no labels cover the labelled objects of photos.

* ABO^i, average best overlap: the largest IoU of each object's mask with any region, mean over all objects of all
  photos (DetCon, Hénaff et al. 2021, figure 7; elsewhere mBO^i). ABO^c: the same with all objects of a class in a photo
  united to one.
* OR, object recovery: the share of objects with a region of IoU over 0.5 (Odin, Hénaff et al. 2022).
* CorLoc: the share of photos with objects in which the one box that was chosen has an IoU of at least 0.5 with a
  labelled box, of whatever class (Deselaers et al. 2010; LOST, Siméoni et al. 2021).

The overlaps of a photo are those of `MaskQuality` and `best_overlaps`, which the steps `masks` and `regions` use; here
they are kept photo by photo, for the bootstrap. Crowds and difficult objects don't count. Objects that are labelled
with a box alone (VOC) are compared by boxes, and those figures have names of their own, as boxes overlap more easily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from stages.correspondence.box_quality import FIRST, LEAST_OVERLAP, best_overlaps
from stages.correspondence.masks.quality import MaskQuality
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import LabelMaps, Segmentation, Size
from stages.data.objects import clear_objects
from stages.evaluation.estimates import Estimate, Figure, resample_counts

# The layers of boxes: those that come first, see `stages.correspondence.box_quality`.
BOX_LAYERS = [f"first_{number}" for number in FIRST]

_BORDER = 16  # its width is this part of the map's sides
_BOXES = 2  # row of MaskQuality's sums
_FIGURES = {  # key: row of the sums, which sum, title, meaning
    "abo_i": (0, "overlap", "ABO of instances", "Largest IoU of each labelled mask with a region, mean over objects"),
    "abo_c": (1, "overlap", "ABO of classes", "The same with all objects of a class in a photo united to one mask"),
    "recovery": (0, "recovered", "object recovery", "Share of the labelled masks with a region of IoU over 0.5"),
    "box_abo": (2, "overlap", "ABO of boxes", "Largest IoU of each labelled box with the box of a region, mean"),
    "box_recovery": (2, "recovered", "box recovery", "Share of the labelled boxes with a region's box of IoU 0.5"),
}


@dataclass(frozen=True)
class Overlaps:
    """Sums over the objects of each of N photos, for L sets of regions and, in the last column, all of them together.

    Attributes:
        counts: (N, 3) int64: objects with masks, classes with masks, and objects with boxes alone.
        overlap: (N, 3, L + 1) float64: sums of their best overlaps.
        recovered: (N, 3, L + 1) float64: how many of them are recovered.
        located: (N, L + 1) float64: 1 where the chosen box is on an object, else 0; NaN where none was chosen, or the
            photo has no object. The last column is the first set's again, as one box is asked for.
    """

    counts: np.ndarray
    overlap: np.ndarray
    recovered: np.ndarray
    located: np.ndarray

    @classmethod
    def joined(cls, photos: Sequence[Overlaps]) -> Overlaps:
        """Those of all these photos, in their order."""
        return cls(*(np.concatenate([getattr(photo, field.name) for photo in photos]) for field in fields(cls)))


def save(path: Path, found: Overlaps, chance: Overlaps | None, **more: np.ndarray) -> None:
    """Writes an .npz file, of whatever name, with `more` beside them."""
    both = {"found": found} | ({} if chance is None else {"chance": chance})
    arrays: dict[str, Any] = {
        f"{name}_{key}": array for name, overlaps in both.items() for key, array in vars(overlaps).items()
    }
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.savez(file, **(arrays | more))


def load(paths: Sequence[Path]) -> tuple[Overlaps, Overlaps | None]:
    """What `save` has written of consecutive photos, joined."""
    parts: dict[str, list[Overlaps]] = {"found": [], "chance": []}
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            for name, overlaps in parts.items():
                if f"{name}_counts" in file:
                    overlaps.append(Overlaps(*(file[f"{name}_{field.name}"] for field in fields(Overlaps))))
    return Overlaps.joined(parts["found"]), Overlaps.joined(parts["chance"]) if parts["chance"] else None


def of_regions(
    segmentation: Segmentation, chosen: np.ndarray | None, objects: pd.DataFrame, catalog: Catalog, image: int
) -> Overlaps:
    """Those of one photo.

    Args:
        chosen: (L, 4) int64, the box for CorLoc of each layer; of masks that overlap and of one layer (1, 4). None: of
            none.
        objects: the photo's rows of the labels, with the columns of `stages.correspondence.masks.quality`.

    Raises:
        ValueError: the mask of an object is damaged or of another photo.
    """
    layers = len(segmentation.maps) if isinstance(segmentation, LabelMaps) else 1
    sums = MaskQuality(layers)
    sums.add(segmentation, objects, catalog, image)
    located = np.full(layers + 1, np.nan)
    if chosen is not None:
        located[:layers] = _located(chosen, _corners(objects))
        located[layers] = located[0]
    return Overlaps(sums.counts[None], sums.overlap[None], sums.recovered[None], located[None])


def of_boxes(boxes: np.ndarray, objects: pd.DataFrame) -> Overlaps:
    """Those of one photo's boxes, (m, 4) int, best first, whose layers are BOX_LAYERS. The first is that of CorLoc."""
    corners, layers = _corners(objects), len(BOX_LAYERS)
    best = best_overlaps(corners, boxes)
    counts, (overlap, recovered) = np.zeros((1, 3), np.int64), np.zeros((2, 1, 3, layers + 1))
    counts[0, _BOXES] = len(corners)
    overlap[0, _BOXES], recovered[0, _BOXES] = best.sum(axis=0), (best >= LEAST_OVERLAP).sum(axis=0)
    located = np.full((1, layers + 1), np.nan)
    located[0, -1] = _located(boxes[:1], corners)[0]
    return Overlaps(counts, overlap, recovered, located)


def _corners(objects: pd.DataFrame) -> np.ndarray:
    return clear_objects(objects)[["x0", "y0", "x1", "y1"]].to_numpy(np.float64)


def _located(chosen: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """chosen: (L, 4) int. objects: (m, 4). Returns (L,) float64."""
    if not len(objects):
        return np.full(len(chosen), np.nan)
    overlaps = [best_overlaps(objects, box[None])[:, -1].max() for box in chosen]
    return (np.array(overlaps) >= LEAST_OVERLAP).astype(np.float64)


def object_box(labels: np.ndarray, size: Size) -> np.ndarray:
    """The box that most likely holds an object, by the segmentation alone: x0, y0, x1, y1 in pixels, (4,) int64.

    Photographers keep objects off the border (the boundary prior of Wei et al. 2012, "Geodesic saliency"). So it is the
    region with the fewest cells at the border, of equal ones the largest; and of it the largest connected part, as
    clusters of features hold all that looks alike, wherever it is. The border is a sixteenth of the sides wide:
    convolutions see zeros beyond the edge, so that the outermost cells of a map often are a region of their own.

    Args:
        labels: (h, w) int, which may be smaller than the photo and stands for its enlargement (`LabelMaps`).
        size: width and height of the photo.
    """
    rows, columns = (max(1, round(side / _BORDER)) for side in labels.shape)
    outside = np.ones(labels.shape, bool)
    outside[rows:-rows, columns:-columns] = False
    areas = np.bincount(labels.reshape(-1))
    on_border = np.bincount(labels[outside], minlength=len(areas))
    present = np.flatnonzero(areas)
    region = present[np.lexsort((-areas[present], on_border[present]))[0]]
    parts, _ = ndimage.label(labels == region)
    box = box_around(parts == 1 + np.bincount(parts.reshape(-1))[1:].argmax())
    scale = np.tile(np.divide(size, labels.shape[::-1]), 2)
    return np.ceil(box * scale - 0.5).astype(np.int64)  # the first pixel whose centre is in that cell


def box_around(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool, not empty -> (4,) int64 x0, y0, x1, y1."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def estimates(overlaps: Overlaps, layers: Sequence[str], chance: Overlaps | None, *, seed: int) -> dict[str, Estimate]:
    """Figures `abo_i`, `abo_c`, `recovery`, `corloc`, and where objects have boxes alone `box_abo` and `box_recovery`;
    of all regions together (`corloc`: of the first layer), and with several layers also of each, as `abo_i_LAYER`. What
    there is nothing to measure for is left out. Intervals are over photos.

    Args:
        chance: the overlaps of regions that know nothing of the photo, for the same photos and layers.
    """
    resamples = resample_counts(len(overlaps.counts), seed)
    found: dict[str, Estimate] = {}
    for column, suffix in _columns(layers):
        for key, (row, sums, _, _) in _FIGURES.items():
            counts = overlaps.counts[:, row]
            if counts.any():
                values = getattr(overlaps, sums)[:, row, column]
                guess = None if chance is None else float(getattr(chance, sums)[:, row, column].sum() / counts.sum())
                found[key + suffix] = _ratio(values, counts, guess, resamples)
        asked = ~np.isnan(overlaps.located[:, column])
        if asked.any():
            guess = None if chance is None else float(chance.located[asked, column].mean())
            hits = np.where(asked, overlaps.located[:, column], 0)
            found[f"corloc{suffix}"] = _ratio(hits, asked.astype(np.int64), guess, resamples)
    return found


def figures(keys: Sequence[str], layers: Sequence[str], what: str) -> dict[str, Figure]:
    """What those of `estimates` with these keys mean. what: one word for the regions, "clusters" say."""
    known: dict[str, Figure] = {}
    for column, suffix in _columns(layers):
        of = "" if not suffix else f", {layers[column]}"
        for key, (_, _, title, meaning) in _FIGURES.items():
            known[key + suffix] = Figure(title + of, f"{meaning}; {what}{of}.", metric=None if suffix else key)
        known[f"corloc{suffix}"] = Figure(
            f"CorLoc{of}",
            f"Share of photos whose one chosen box has an IoU of 0.5 with a labelled one; {what}{of}.",
            metric=None if suffix else "corloc",
        )
    return {key: figure for key, figure in known.items() if key in keys}


def _columns(layers: Sequence[str]) -> list[tuple[int, str]]:
    """Column and suffix: all together first. One layer alone is all there is."""
    each = [(number, f"_{layer}") for number, layer in enumerate(layers)] if len(layers) > 1 else []
    return [(max(1, len(layers)), ""), *each]


def _ratio(values: np.ndarray, counts: np.ndarray, chance: float | None, resamples: np.ndarray) -> Estimate:
    """Sum of `values` (N,) over that of `counts` (N,), with its resamples."""
    totals = resamples @ counts
    again = np.divide(resamples @ values, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return Estimate(float(values.sum() / counts.sum()), chance, again)
