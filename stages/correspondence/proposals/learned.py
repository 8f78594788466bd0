"""Proposals from learned features: clusters of the stage-1 encoder's feature map, a photo at a time, without labels.

Cells of the map with like features are parts of one thing: k-means finds them (so Odin discovers objects, Henaff et al.
2022), each connected piece of a cluster is boxed (as in rOSD, Vo et al. 2020, and LOST, Simeoni et al. 2021), and
several K give wholes and parts. Boxes are as coarse as the map: with a ResNet a cell is 32 pixels wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from stages.correspondence.proposals import Propose
from stages.correspondence.proposals.ranking import ranked
from stages.learning.devices import resolve_device
from stages.learning.encoder import load_encoder
from stages.learning.frozen import Frozen

_STRIDE = 32  # pixels; sides of the network's input are multiples, so that the cells of its map cover the photo evenly
_LEAST = np.float32(1e-6)  # of a length: without it a photo of one colour has clusters of rounding errors
_ROUNDS = 20  # of k-means at most; a few hundred cells settle earlier
_AROUND = np.ones((3, 3), np.uint8)


def make(*, clusters: Sequence[int], side: int, encoder: Path | None, device: str) -> Propose:
    """Boxes of the connected pieces of all clusters; the score is `objectness`.

    Args:
        clusters: numbers K of clusters; each is tried.
        side: longer side at which the network sees a photo, in pixels, rounded to a multiple of 32.
        encoder: directory with `encoder.safetensors`.

    Raises:
        ValueError: there is no encoder.
    """
    if encoder is None:
        raise ValueError("regions.proposals=learned needs a trained encoder: the one of step image_pretraining.")
    network = Frozen(load_encoder(encoder), resolve_device(device))

    def propose(photo: np.ndarray, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        features = _feature_map(network, photo, side)
        found = [piece for k in clusters for piece in _pieces(features, k, rng)]
        cells = np.array([cells for cells, _ in found]).reshape(-1, 4)
        # Outward from cells to pixels; a photo may have fewer pixels than the map has cells.
        of_photo, of_map = np.tile(photo.shape[1::-1], 2), np.tile(features.shape[1::-1], 2)
        low, high = cells * of_photo // of_map, -(-cells * of_photo // of_map)
        return ranked(np.hstack([low[:, :2], high[:, 2:]]), np.array([score for _, score in found]))

    return propose


def _feature_map(network: Frozen, photo: np.ndarray, side: int) -> np.ndarray:
    """(h, w, C) float32: unit vectors, after what all cells of the photo have in common is taken away."""
    scale = side / max(photo.shape[:2])
    height, width = (_STRIDE * max(1, round(length * scale / _STRIDE)) for length in photo.shape[:2])
    seen = np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))
    features = network.feature_map(torch.from_numpy(seen).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    cells = features.float().cpu().numpy()
    return _unit(cells - cells.mean(axis=(0, 1)))


def _pieces(features: np.ndarray, k: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, float]]:
    """The box (4,) in cells of each connected piece of the K clusters, and its objectness."""
    height, width, channels = features.shape
    labels = kmeans(features.reshape(-1, channels), k, rng).reshape(height, width)
    for label in range(labels.max() + 1):
        mask = (labels == label).astype(np.uint8)
        count, numbers, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for number in range(1, count):  # 0 is what lies outside of the cluster
            x, y, w, h = statistics[number, :4].tolist()
            yield np.array([x, y, x + w, y + h]), objectness(features, numbers == number)


def objectness(features: np.ndarray, piece: np.ndarray) -> float:
    """(cosine within - cosine around) x (1 - share of the photo's border) x square root of the area.

    A thing is alike in itself, unlike what it lies on, and seldom reaches far along the photo's border. By the first
    factor alone single odd cells would win, hence the area. `within` and `around` are mean cosines to the mean of the
    piece, of its own cells and of those that touch it.

    Args:
        features: (h, w, C) unit vectors. piece: (h, w) bool.
    """
    alike = features @ _unit(features[piece].mean(axis=0))
    around = cv2.dilate(piece.astype(np.uint8), _AROUND).astype(bool) & ~piece
    if not around.any():
        return 0.0  # the whole photo
    border = np.ones_like(piece)
    border[1:-1, 1:-1] = False
    contrast = alike[piece].mean() - alike[around].mean()
    return float(contrast * (1 - piece[border].mean()) * np.sqrt(piece.sum()))


def kmeans(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Spherical k-means, seeded as k-means++ (Arthur & Vassilvitskii 2007).

    Args:
        points: (n, C) unit vectors, or zeros. k: at most so many clusters; fewer where fewer points differ.

    Returns:
        (n,) int64 in 0 .. k - 1.
    """
    centres = points[[rng.integers(len(points))]]
    while len(centres) < min(k, len(points)):
        distance = np.maximum(1 - (points @ centres.T).max(axis=1), 0).astype(np.float64)
        distance[distance < 1e-6] = 0  # rounding errors of what is a centre already
        if not distance.any():
            break
        centres = np.vstack([centres, points[rng.choice(len(points), p=distance / distance.sum())]])
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        former, labels = labels, (points @ centres.T).argmax(axis=1)
        if (labels == former).all():
            break
        for label in np.unique(labels):
            centres[label] = _unit(points[labels == label].mean(axis=0))
    return labels


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Divided by their lengths along the last axis; what is no more than rounding errors becomes zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(lengths > _LEAST, vectors / np.maximum(lengths, _LEAST), 0)
