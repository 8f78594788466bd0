"""The roi_features step: one row a box, the same to the bit whatever the processes, threads and interruptions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as F

from stages.correspondence import roi_features as step
from stages.data.boxes import Boxes, BoxesWriter
from stages.data.catalog import Catalog
from stages.data.unreadable import UnreadablePhoto
from stages.learning.encoder import load_encoder
from stages.process import ordered_map, pool
from stages.report import Report
from stages.shards import LocalEngine, Shard

Run = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Cluster:
    """Like those of flows/engines.py: its processes know nothing of each other."""

    def map(self, work: Callable[[Shard], int], shards: Sequence[Shard]) -> Generator[int, None, None]:
        with pool(2) as processes:
            yield from ordered_map(processes, work, shards, window=4)


@pytest.fixture
def run(photo_catalog: Catalog, encoder: Path, regions: Path) -> Run:
    """Runs the step into a folder, with settings that differ from those of the fixture `features`."""

    def run(out: Path, **settings: Any) -> dict[str, Any]:
        out.mkdir(exist_ok=True)
        report = Report()
        usual = {
            "catalog": photo_catalog.directory, "root": photo_catalog.root, "encoder": encoder, "regions": regions,
            "size": 48, "mode": "crops", "map_side": 160, "precision": "fp32", "batch_size": 10, "compile": False,
            "device": "cpu", "workers": 1, "engine": LocalEngine(1),
        }  # fmt: skip
        step.run(out=out, report=report, **usual | settings)
        return report.metrics

    return run


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three photos a shard, so that there are three."""
    monkeypatch.setattr(step, "SHARD", 3)
    monkeypatch.setattr(step, "_BATCHES_A_SHARD", 0)


def content(folder: Path) -> bytes:
    return (folder / "features.npy").read_bytes()


def test_row_is_the_pooled_feature_of_that_crop(
    features: Path, photo_catalog: Catalog, encoder: Path, regions: Path
) -> None:
    """Against torchvision's resized_crop, which the official code uses, one box at a time."""
    rows = np.load(features / "features.npy")
    boxes = Boxes(regions)
    assert rows.shape == (len(boxes), 512)
    assert rows.dtype == np.float16
    network = load_encoder(encoder)
    for number in (0, 9, 10, len(boxes) // 2, len(boxes) - 1):
        image = int(np.searchsorted(boxes.starts, number, side="right")) - 1
        x0, y0, x1, y1 = boxes.corners[number].tolist()
        crop = F.resized_crop(photo_catalog.decode(image), y0, x0, y1 - y0, x1 - x0, [48, 48])
        with torch.inference_mode():
            expected = network.features(F.pil_to_tensor(crop)[None])[0]
        np.testing.assert_allclose(rows[number], expected / expected.norm(), atol=1e-3)


def test_same_bytes_with_more_threads(tmp_path: Path, features: Path, run: Run) -> None:
    metrics = run(tmp_path, workers=24)
    assert content(tmp_path) == content(features)
    assert metrics["boxes"] == len(np.load(features / "features.npy"))
    assert metrics["channels"] == 512
    assert metrics["bytes_per_image"] == len(content(features)) / 8
    assert metrics["seconds_per_image"] > metrics["seconds_per_box"] > 0


@pytest.mark.usefixtures("small_shards")
def test_workers_of_a_cluster_fill_one_file(tmp_path: Path, features: Path, run: Run) -> None:
    run(tmp_path, engine=Cluster(), device="auto" if not torch.cuda.is_available() else "cpu")
    rows, expected = (np.load(folder / "features.npy").astype(np.float32) for folder in (tmp_path, features))
    np.testing.assert_allclose(rows, expected, atol=1e-3)  # other batches, so sums may be rounded otherwise


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    real, begun = step._features, []

    def interrupted(job: Any, mode: str, images: Iterable[int]) -> Iterator[Tensor]:
        images = list(images)
        begun.append(images[0])
        for number, features in enumerate(real(job, mode, images)):
            if begun == [0, 3] and number == 2:
                raise KeyboardInterrupt
            yield features

    monkeypatch.setattr(step, "_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "resumed")
    rows = np.load(tmp_path / "resumed" / "features.npy")
    assert rows.shape == np.load(tmp_path / "whole" / "features.npy").shape
    assert not rows[-1].any()
    run(tmp_path / "resumed")
    assert begun == [0, 3, 3, 6]
    assert content(tmp_path / "resumed") == content(tmp_path / "whole")
    metrics = run(tmp_path / "resumed")  # nothing is left to do
    assert begun == [0, 3, 3, 6]
    assert content(tmp_path / "resumed") == content(tmp_path / "whole")
    assert metrics["seconds_per_box"] > 0


@pytest.mark.usefixtures("small_shards")
def test_finished_shards_do_not_count_without_their_rows(tmp_path: Path, run: Run) -> None:
    run(tmp_path)
    whole = content(tmp_path)
    (tmp_path / "features.npy").write_bytes(whole[:-1])
    run(tmp_path)
    assert content(tmp_path) == whole


def test_boxes_of_another_catalog_are_refused(tmp_path: Path, run: Run) -> None:
    with BoxesWriter(tmp_path) as boxes:
        boxes.append(np.array([1]), np.array([[0, 0, 9, 9]]), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="boxes of 1 photos where the catalog has 8"):
        run(tmp_path, regions=tmp_path)


def test_a_photo_that_is_gone_is_named(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UnreadablePhoto, match=r"no longer can: missing.*Bring the file back"):
        run(tmp_path, root=tmp_path)
