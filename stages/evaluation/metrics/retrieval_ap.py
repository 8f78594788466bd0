"""Average precision of retrieval: each picture asks for those that show the same.

AP of one query is the mean, over its relevant pictures, of the precision at the rank of each (as in TREC, and in
scikit-learn's `average_precision_score`): no envelope, unlike VOC's AP. Pictures of equal similarity enter together, so
that an encoder to which all pictures look alike scores no more than guessing does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stages.evaluation.embeddings import unit_rows

_ENTRIES = 2**22  # of the similarity matrix that are in memory at once


def average_precisions(similarity: np.ndarray, relevant: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """AP of each query.

    Args:
        similarity: (B, N) float. relevant: (B, N) bool.
        allowed: (B, N) bool: the others are left out, such as the query itself.

    Returns:
        (B,) float64 in [0, 1]; NaN where nothing relevant is allowed.
    """
    scores = np.where(allowed, similarity, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    hits = np.take_along_axis(relevant & allowed, order, axis=1)
    # Each place counts with the precision at the end of its run of equal similarities.
    ranks = np.arange(1, scores.shape[1] + 1)
    last = np.append(ranked[:, 1:] != ranked[:, :-1], np.ones((len(ranked), 1), bool), axis=1)
    ends = np.minimum.accumulate(np.where(last, ranks, ranks[-1])[:, ::-1], axis=1)[:, ::-1]  # 1-based
    found = hits.cumsum(axis=1)
    precision = np.take_along_axis(found, ends - 1, axis=1) / ends
    total = found[:, -1]
    sums = np.where(hits, precision, 0).sum(axis=1)
    return np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0)


def chance_average_precision(relevant: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Expected AP of a random order of n pictures, r of them relevant: ((r - 1) / (n - 1) (n - H_n) + H_n) / n.

    H_n is the n-th harmonic number. At rank k the precision, given that its picture is relevant, is
    (1 + (k - 1) (r - 1) / (n - 1)) / k on average; the mean over k gives the formula (Bestgen 2015).

    Args:
        relevant, allowed: (B,) int, r and n. Returns (B,) float64; NaN where r is 0.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, max(allowed.max(initial=0), 1) + 1))])[allowed]
    rest = np.divide(relevant - 1, allowed - 1, out=np.zeros(len(allowed)), where=allowed > 1)
    chance = (rest * (allowed - harmonic) + harmonic) / np.maximum(allowed, 1)
    return np.where(relevant > 0, chance, np.nan)


def similarities(features: np.ndarray, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields some of the queries and their cosine similarities to all rows, (B,) and (B, N) float32, until all had
    their turn.

    Args:
        features: (N, D) float, may be memory-mapped; not normalised. queries: (Q,) row numbers.
    """
    rows, dim = features.shape
    together, block = max(1, _ENTRIES // rows), max(1, _ENTRIES // dim)
    for start in range(0, len(queries), together):
        part = queries[start : start + together]
        units = unit_rows(features[part])
        blocks = [units @ unit_rows(features[first : first + block]).T for first in range(0, rows, block)]
        yield part, np.concatenate(blocks, axis=1)
