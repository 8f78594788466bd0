"""Artifacts of regions and correspondence, written from small tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stages.correspondence.pair_table import PairsWriter
from stages.data.boxes import Boxes, BoxesWriter

CORNERS = ["x0", "y0", "x1", "y1"]


def write_boxes(folder: Path, boxes: pd.DataFrame) -> Boxes:
    """boxes: image, x0, y0, x1, y1 and maybe score, sorted by image; every image up to the last has one."""
    counts = np.bincount(boxes["image"])
    score = boxes["score"] if "score" in boxes else np.full(len(boxes), 0.5)
    with BoxesWriter(folder) as writer:
        writer.append(counts, boxes[CORNERS].to_numpy(), np.asarray(score, np.float32))
    return Boxes(folder)


def write_pairs(folder: Path, boxes: Boxes, pairs: pd.DataFrame) -> None:
    """pairs: image, rank, neighbor, roi, neighbor_roi, sorted by image and rank. Ranks that no pair has are empty."""
    images, ranks = boxes.images, int(pairs["rank"].max()) + 1
    neighbors, counts = np.zeros((images, ranks), int), np.zeros((images, ranks), int)
    neighbors[pairs["image"], pairs["rank"]] = pairs["neighbor"]
    np.add.at(counts, (pairs["image"].to_numpy(), pairs["rank"].to_numpy()), 1)
    similarity = pairs["similarity"] if "similarity" in pairs else np.full(len(pairs), 0.5)
    with PairsWriter(folder, boxes, ranks) as writer:
        writer.append(neighbors, counts, pairs[["roi", "neighbor_roi"]].to_numpy(), np.asarray(similarity))
