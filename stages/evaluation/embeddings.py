"""Embeddings of pictures by several encoders at once, and the search for the most similar ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.learning.encoder import Encoder, load_encoder, random_encoder
from stages.report import Report

RANDOM = "random"


@dataclass(frozen=True)
class Embeddings:
    """What one encoder makes of N pictures. Rows are pictures; nothing is normalised.

    Attributes:
        features: (N, C) float32, global average of the backbone's last feature map.
        projections: (N, D) float32, the projector's output.
    """

    features: np.ndarray
    projections: np.ndarray


def load_with_baselines(directories: Mapping[str, Path], seed: int) -> dict[str, Encoder]:
    """The trained encoders by name, then an untrained one of the same architecture, named "random".

    When architectures differ, each further one gets a baseline of its own: "random (NAME)", NAME being the first
    encoder of that architecture.
    """
    if RANDOM in directories:
        raise ValueError(f"an encoder can't be named '{RANDOM}': the untrained baseline has that name. Choose another.")
    encoders = {name: load_encoder(directory) for name, directory in directories.items()}
    first_of: dict[str, str] = {}
    for name, encoder in encoders.items():
        first_of.setdefault(json.dumps(encoder.settings, sort_keys=True), name)
    for number, name in enumerate(first_of.values()):
        baseline = RANDOM if number == 0 else f"{RANDOM} ({name})"
        encoders[baseline] = random_encoder(seed, **encoders[name].settings)
    return encoders


@torch.inference_mode()
def embed(
    encoders: Mapping[str, Encoder],
    batches: Iterable[Tensor],
    *,
    total: int,
    unit: str,
    batch_size: int,
    device: torch.device,
    report: Report,
) -> dict[str, Embeddings]:
    """Embeds every picture with every encoder. Encoders are moved to `device` and are in eval mode.

    Args:
        batches: `total` pictures, each batch (B, 3, S, S) uint8 RGB of any B; networks are fed `batch_size` at once.
        unit: what the pictures are, for the progress.
    """
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in encoders}
    networks = {name: encoder.to(device).eval() for name, encoder in encoders.items()}
    done = 0
    for pictures in _of_size(batches, batch_size):
        on_device = pictures.to(device)
        for name, network in networks.items():
            features = network.features(on_device)
            rows[name].append((features.cpu(), network.projector(features).float().cpu()))
        done += len(pictures)
        report.progress(done, total, unit)
    if done != total:
        raise RuntimeError(f"{done} {unit} came where {total} were due: a loader dropped or repeated some")
    return {
        name: Embeddings(torch.cat([f for f, _ in parts]).numpy(), torch.cat([p for _, p in parts]).numpy())
        for name, parts in rows.items()
    }


def _of_size(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The rows of `batches` in order, `size` at a time and the rest last."""
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= size:
            *full, rest = torch.cat(waiting).split(size)
            if len(rest) == size:
                full, rest = [*full, rest], rest[:0]
            yield from full
            waiting = [rest]
    left = torch.cat(waiting) if waiting else torch.empty(0)
    if len(left):
        yield left


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Rows divided by their L2 norm (a zero row stays zero). (N, D) float32."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (embeddings / np.maximum(norms, 1e-12)).astype(np.float32)


def nearest_of_other_groups(embeddings: np.ndarray, groups: np.ndarray, chunk: int = 1024) -> np.ndarray:
    """For each row, the row of the largest cosine similarity among those of another group.

    Args:
        embeddings: (N, D). groups: (N,) int. chunk: rows of the similarity matrix that are in memory at once.

    Returns:
        (N,) int64 row numbers; -1 where there is no other group. Ties go to the lower row number.
    """
    rows = unit_rows(embeddings)
    nearest = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), chunk):
        stop = start + chunk
        similarity = rows[start:stop] @ rows.T
        similarity[groups[start:stop, None] == groups[None, :]] = -np.inf
        best = similarity.argmax(axis=1)
        found = np.isfinite(similarity[np.arange(len(best)), best])
        nearest[start:stop] = np.where(found, best, -1)
    return nearest
