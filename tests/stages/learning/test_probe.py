"""The probe finds classes that are there to be found, and leaves the training that it looks at as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from stages.data.catalog import Catalog
from stages.learning.devices import deterministic
from stages.learning.encoder import Encoder
from stages.learning.probe import Probe, vote
from tests.stages.learning.settings import ENCODER

CPU = torch.device("cpu")
COLORS = np.array([[220, 30, 30], [30, 200, 40], [40, 60, 220]], np.uint8)
ARGUMENTS = {"size": 16, "max_objects": 1000, "neighbors": 3, "seed": 0}

MakeCatalog = Callable[..., Catalog]


@pytest.fixture
def color_catalog(tmp_path: Path, write_catalog: Callable[[Path, pd.DataFrame], None]) -> MakeCatalog:
    """Photos of two 20 x 20 objects, left and right, on a noisy background; the colour is the class."""

    def make(pairs: list[tuple[int, int]]) -> Catalog:
        rng = np.random.default_rng(0)
        rows = []
        for image, pair in enumerate(pairs):
            pixels = rng.integers(0, 256, (24, 48, 3), dtype=np.uint8)
            for left, category in zip((2, 26), pair, strict=True):
                pixels[2:22, left : left + 20] = COLORS[category] - rng.integers(0, 20, (20, 20, 1), dtype=np.uint8)
                rows.append((image, category, left, 2, left + 20, 22, False, False))
            Image.fromarray(pixels).save(tmp_path / f"{image}.png")
        names = [f"{image}.png" for image in range(len(pairs))]
        write_catalog(tmp_path, pd.DataFrame({"path": names, "width": 48, "height": 24}))
        columns = ["image", "category", "x0", "y0", "x1", "y1", "difficult", "crowd"]
        pd.DataFrame(rows, columns=columns).to_parquet(tmp_path / "labels.parquet")
        (tmp_path / "categories.json").write_text(json.dumps(["red", "green", "blue"]))
        return Catalog(tmp_path, tmp_path)

    return make


class MeanColor(Encoder):
    """An encoder whose features are the mean colour."""

    def features(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3)) - 100


def encoder(kind: type[Encoder] = Encoder) -> Encoder:
    torch.manual_seed(0)
    return kind(**ENCODER).train()


def vote_by_hand(features: np.ndarray, classes: np.ndarray, groups: np.ndarray, k: int) -> list[int]:
    named = []
    for i, query in enumerate(features):
        cosines = [
            query @ other / np.linalg.norm(query) / np.linalg.norm(other) if groups[i] != groups[j] else -np.inf
            for j, other in enumerate(features)
        ]
        votes = np.zeros(classes.max() + 1)
        for j in np.argsort(cosines)[::-1][:k]:
            votes[classes[j]] += np.exp(cosines[j] / 0.07)
        named.append(int(votes.argmax()))
    return named


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 6), st.integers(1, 40))
def test_votes_agree_with_loops(seed: int, rows: int, photos: int, neighbors: int):
    rng = np.random.default_rng(seed)
    features, classes = rng.normal(size=(rows, 5)), rng.integers(4, size=rows)
    groups = np.r_[0, 1, rng.integers(photos, size=rows - 2)]
    named = vote(*map(torch.from_numpy, (features, classes, groups)), neighbors=neighbors)
    assert named.tolist() == vote_by_hand(features, classes, groups, neighbors)


def test_what_the_features_tell_apart_is_found(color_catalog: MakeCatalog):
    catalog = color_catalog([(0, 1), (1, 2), (2, 0), (1, 0), (0, 0)])
    figures = Probe(catalog, **ARGUMENTS).accuracy(encoder(MeanColor), CPU)
    assert figures == {"probe_top1": 1.0, "probe_chance": pytest.approx(5 / 10)}


def test_objects_of_the_same_photo_have_no_vote():
    """Two photos of each kind of feature, whose classes differ: the nearest of another photo is of the other class."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(4, dim=0)
    classes = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    named = vote(features, classes, torch.arange(8) // 2, neighbors=2)
    assert named.tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


def test_looking_changes_nothing(color_catalog: MakeCatalog):
    probe = Probe(color_catalog([(0, 1), (1, 2), (2, 0)]), **ARGUMENTS)
    looked_at = encoder()
    looked_at.projector[1].eval()  # a part may be in another mode than the rest
    state = copy.deepcopy(looked_at.state_dict())
    modes = [module.training for module in looked_at.modules()]
    generator = torch.get_rng_state()
    with deterministic(CPU):
        first, second = (probe.accuracy(looked_at, CPU) for _ in range(2))
    assert first == second
    assert all(torch.equal(value, state[name]) for name, value in looked_at.state_dict().items())
    assert [module.training for module in looked_at.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in looked_at.parameters())


def test_an_error_while_looking_leaves_the_modes_too(color_catalog: MakeCatalog):
    class Failing(Encoder):
        def features(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    looked_at = encoder(Failing)
    probe = Probe(color_catalog([(0, 1), (1, 2), (2, 0)]), **ARGUMENTS)
    with pytest.raises(RuntimeError, match="out of memory"):
        probe.accuracy(looked_at, CPU)
    assert all(module.training for module in looked_at.modules())


def test_at_most_so_many_objects_the_same_for_the_same_seed(color_catalog: MakeCatalog):
    catalog = color_catalog([(i % 3, (i + 1) % 3) for i in range(20)])
    first, again, other = (Probe(catalog, **(ARGUMENTS | {"max_objects": 12, "seed": seed})) for seed in (0, 0, 1))
    assert len(first._pictures) == 12
    assert torch.equal(first._pictures, again._pictures)
    assert not torch.equal(first._photos, other._photos)
    assert first.accuracy(encoder(MeanColor), CPU)["probe_top1"] == 1.0


def test_a_photo_that_turned_unreadable_is_left_out(color_catalog: MakeCatalog, caplog: pytest.LogCaptureFixture):
    catalog = color_catalog([(0, 1), (1, 2), (2, 0), (0, 1)])
    catalog.path(1).write_bytes(b"no picture")
    probe = Probe(catalog, **ARGUMENTS)
    assert "leaves out 1 photos" in caplog.text
    figures = probe.accuracy(encoder(MeanColor), CPU)
    # Blue is left in one photo only: that object is not asked for. Of the others, three are red and two green.
    assert figures == {"probe_top1": 1.0, "probe_chance": pytest.approx(3 / 5)}


def test_too_few_objects_are_an_error_with_a_remedy(color_catalog: MakeCatalog):
    with pytest.raises(ValueError, match=r"nothing to ask.*max_objects \(1\)"):
        Probe(color_catalog([(0, 1), (1, 2)]), **(ARGUMENTS | {"max_objects": 1}))
