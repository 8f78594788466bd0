"""The photos that are shown to people, with their nearest neighbour: from the best matched to the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data.catalog import Catalog

# One colour a pair: bright enough for a dark photo, saturated enough for a light one, and told apart by most eyes.
COLOURS = ("#ffd21f", "#19c8ff", "#ff5470", "#4be36b", "#c58bff", "#ff9326", "#ff6fd8", "#e8f0ff")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pair:
    """Two boxes that correspond, in pixels of their photos. `depth`: how many pairs before it use the same box."""

    number: int
    colour: str
    similarity: float
    box: Box
    depth: int
    neighbor_box: Box
    neighbor_depth: int


@dataclass(frozen=True)
class Example:
    """A photo and its nearest neighbour, of those that it has pairs with.

    Attributes:
        place: 1 for the photo whose pairs with that neighbour are most similar on average, up to `places`.
        likeness: that average.
        image_similarity: cosine similarity of the two photos.
        pairs: the first of its pairs with that neighbour, at most one a colour; `more` are not shown.
    """

    image: int
    path: str
    neighbor: int
    neighbor_path: str
    place: int
    places: int
    likeness: float
    image_similarity: float
    pairs: list[Pair]
    more: int


def choose_examples(pairs: Path, neighbors: Path, photos: Catalog, likeness: np.ndarray, count: int) -> list[Example]:
    """At most `count` photos at even steps from the best to the worst, so that bad pairs are seen as well as good ones.

    Args:
        pairs, neighbors: `pairs.parquet` and `neighbors.parquet`.
        likeness: (N,) mean similarity of each photo's pairs with the nearest neighbour that it has any with.
    """
    order = np.argsort(-likeness, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)).tolist()
    chosen = [("image", "in", order[places].tolist())]
    shown = pd.read_parquet(pairs, filters=chosen)
    shown = shown[shown["rank"] == shown.groupby("image")["rank"].transform("min")]
    similarity_of = pd.read_parquet(neighbors, filters=chosen).set_index(["image", "rank"])["similarity"].to_dict()
    examples = []
    for place in places:
        image = int(order[place])
        its_pairs = shown[shown["image"] == image]
        neighbor, rank = int(its_pairs["neighbor"].iloc[0]), int(its_pairs["rank"].iloc[0])
        examples.append(
            Example(
                image=image,
                path=photos.name(image),
                neighbor=neighbor,
                neighbor_path=photos.name(neighbor),
                place=place + 1,
                places=len(order),
                likeness=float(likeness[image]),
                image_similarity=float(similarity_of[image, rank]),
                pairs=_shown_pairs(its_pairs),
                more=max(0, len(its_pairs) - len(COLOURS)),
            )
        )
    return examples


def _shown_pairs(table: pd.DataFrame) -> list[Pair]:
    table = table.sort_values("pair").head(len(COLOURS))
    depth = table.groupby("roi").cumcount().tolist()
    neighbor_depth = table.groupby("neighbor_roi").cumcount().tolist()
    corners = ["x0", "y0", "x1", "y1"]
    boxes = table[corners].to_numpy().tolist()
    neighbor_boxes = table[[f"neighbor_{corner}" for corner in corners]].to_numpy().tolist()
    return [
        Pair(
            number=row + 1,
            colour=COLOURS[row],
            similarity=float(similarity),
            box=tuple(boxes[row]),
            depth=depth[row],
            neighbor_box=tuple(neighbor_boxes[row]),
            neighbor_depth=neighbor_depth[row],
        )
        for row, similarity in enumerate(table["similarity"])
    ]


def scaled(box: Box, depth: int, scale: float, step: float) -> Box:
    """The box in a picture `scale` times the size, `depth` steps further in so that equal boxes are all seen."""
    x0, y0, x1, y1 = (side * scale for side in box)
    inset = min(depth * step, (x1 - x0) / 3, (y1 - y0) / 3)
    return x0 + inset, y0 + inset, x1 - inset, y1 - inset


# Steps of a badge's side from a box's corner; of places equally near, those to the right and below come first.
_PLACES = (*range(8), *range(-1, -8, -1))


def badge_corners(boxes: Sequence[Box], scale: float, size: tuple[int, int], badge: float) -> list[tuple[float, float]]:
    """Where the square badges of the boxes go, in a picture `scale` times the size of the photo: at the upper left
    corner of each box, or as near to it as there is room, none over another.

    Args:
        size: width and height of the picture. badge: side of a badge.
    """
    placed: list[tuple[float, float]] = []
    for x0, y0, _, _ in boxes:
        left, top = min(x0 * scale, size[0] - badge), min(y0 * scale, size[1] - badge)
        free = [
            (x, y)
            for x, y in ((left + column * badge, top + row * badge) for row in _PLACES for column in _PLACES)
            if 0 <= x <= size[0] - badge
            and 0 <= y <= size[1] - badge
            and all(max(abs(x - other), abs(y - below)) > badge - 1e-6 for other, below in placed)
        ]
        placed.append(min(free, key=lambda corner: abs(corner[0] - left) + abs(corner[1] - top), default=(left, top)))
    return placed
