"""Edge Boxes (Zitnick & Dollar 2014) as OpenCV has it: boxes that hold many whole contours and cut few.

Its edges are those of structured forests (Dollar & Zitnick 2013) where their model is given. It is trained on people's
outlines (BSDS 500) and does not come with OpenCV. Without it edges are where colours change, which needs no training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from stages.correspondence.opencv_contrib import contrib
from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked

Edges = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# Of the sigmas 0, 1, 1.5, 2 the one with the highest recall on 95 objects of VOC 2007: finer edges are texture.
_SIGMA = 2.0
_STRONGEST = 99  # percentile of a photo's gradients that counts as an edge of strength 1
_SUPPRESSED_WITHIN = 2  # pixels across an edge, OpenCV's default
_SMALLEST_SIDE = 16  # pixels; in smaller photos there are no contours, and OpenCV's structured edges fail


def make(*, model: Path | None, alpha: float, beta: float, max_proposals: int) -> Propose:
    """At most `max_proposals` boxes; the score is the method's own (equation 3).

    Takes about a second for a photo of a megapixel, but a minute where it is all edges, as noise is: where a data set
    holds such, set `regions.max_side`.

    Args:
        model: OpenCV's structured edges (model.yml.gz); None for edges by the gradient.
        alpha: step of the sliding window, as an IoU. beta: IoU of the non-maximum suppression. Both within 0 .. 1.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it is none.
    """
    edges = gradient_edges if model is None else _structured_edges(model)

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if min(photo.shape[:2]) < _SMALLEST_SIDE:
            return ranked([], [])
        search = contrib("ximgproc").createEdgeBoxes(alpha=alpha, beta=beta, maxBoxes=max_proposals)
        found, scores = search.getBoundingBoxes(*edges(photo))
        if len(found) == 0:  # then the scores are None
            return ranked([], [])
        corners = np.array(found, np.int64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return ranked(np.minimum(corners, np.tile(photo.shape[1::-1], 2)), np.ravel(scores))

    return propose


def gradient_edges(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thin edges by the strongest colour gradient.

    Args:
        photo: (H, W, 3) uint8.

    Returns:
        strength: (H, W) float32 in 0 .. 1, 0 beside the ridge of an edge. direction: (H, W) float32 in radians,
        0 <= direction <= pi, across the edge: 0 where colours change from left to right.
    """
    smooth = cv2.GaussianBlur(photo.astype(np.float32), (0, 0), _SIGMA)
    gradient = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)])  # 2, H, W, 3
    length = np.hypot(*gradient)
    strongest = length.argmax(axis=2)[..., None]
    dx, dy = np.take_along_axis(gradient, strongest[None], axis=3)[..., 0]
    strength = np.take_along_axis(length, strongest, axis=2)[..., 0]
    direction = np.mod(np.arctan2(dy, dx), np.float32(np.pi))
    limit = np.float32(np.percentile(strength, _STRONGEST))
    strength = np.minimum(strength / limit, 1) if limit > 0 else np.sign(strength)
    return thinned(strength, direction), direction


def thinned(strength: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """`strength` where no pixel across the edge, at a distance of 1 or 2, is stronger; elsewhere 0. All (H, W)."""
    y, x = np.indices(strength.shape, dtype=np.float32)
    dx, dy = np.cos(direction), np.sin(direction)
    ridge = np.ones(strength.shape, bool)
    for step in range(-_SUPPRESSED_WITHIN, _SUPPRESSED_WITHIN + 1):
        if step != 0:
            beside = cv2.remap(
                strength, x + step * dx, y + step * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            ridge &= strength >= beside
    return np.where(ridge, strength, np.float32(0))


def _structured_edges(model: Path) -> Edges:
    if not model.is_file():
        raise FileNotFoundError(
            f"regions.edge_boxes.model={model} is not there. It is OpenCV's structured-edges model, model.yml.gz of "
            "https://github.com/opencv/opencv_extra (testdata/cv/ximgproc); or leave it out: edges are then found by "
            "the gradient."
        )
    try:
        detector = contrib("ximgproc").createStructuredEdgeDetection(str(model))
    except cv2.error as error:
        raise ValueError(
            f"regions.edge_boxes.model={model} cannot be read as a structured-edges model of OpenCV ({error.err}). "
            "Download it again, or leave it out."
        ) from error

    def edges(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        strength = detector.detectEdges(photo.astype(np.float32) / 255)
        direction = detector.computeOrientation(strength)
        return detector.edgesNms(strength, direction), direction

    return edges
