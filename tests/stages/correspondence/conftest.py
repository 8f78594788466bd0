"""Fixtures for the steps of the correspondence stage: their inputs, made by the real steps from real photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import retrieval
from stages.correspondence import regions as regions_step
from stages.correspondence import roi_features as roi_features_step
from stages.data.catalog import Catalog
from stages.learning.encoder import random_encoder, save_encoder
from stages.report import Report
from stages.shards import LocalEngine


@pytest.fixture(scope="session")
def find_regions() -> Callable[..., Report]:
    """Runs the regions step into a folder, quickly: (folder, catalog, settings that differ)."""

    def run(out: Path, catalog: Catalog, **settings: Any) -> Report:
        out.mkdir(exist_ok=True)
        report = Report()
        search: dict[str, Any] = {
            "proposals": "opencv_selective_search", "options": {"mode": "fast"}, "encoder": None, "max_side": 160,
            "max_pixels": 4_000_000, "min_side": 24, "max_aspect": 3.0, "max_iou": 0.5, "max_boxes": 100,
            "min_saliency": None, "seed": 0, "device": "cpu", "workers": 1,
        }  # fmt: skip
        search |= settings
        engine = LocalEngine(search["workers"])
        where = {"catalog": catalog.directory, "root": catalog.root}
        regions_step.run(out=out, report=report, engine=engine, **where, **search)
        return report

    return run


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoder")
    save_encoder(random_encoder(0, backbone="resnet10t", projector_hidden=32, projector_out=16), directory)
    return directory


@pytest.fixture(scope="session")
def regions(
    photo_catalog: Catalog, find_regions: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("regions")
    find_regions(out, photo_catalog)
    return out


@pytest.fixture(scope="session")
def neighbors(photo_catalog: Catalog, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("retrieval")
    retrieval.run(
        out=out, report=Report(), catalog=photo_catalog.directory, root=photo_catalog.root, encoder=encoder,
        neighbors=3, resize=72, crop=64, precision="fp32", index="exact", exact_up_to=1000, ivf_probes=1, hnsw_links=4,
        hnsw_search=8, recall_sample=8, max_similarity=None, batch_size=4, compile=False, device="cpu", workers=0,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def features(photo_catalog: Catalog, encoder: Path, regions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("roi_features")
    roi_features_step.run(
        out=out, report=Report(), catalog=photo_catalog.directory, root=photo_catalog.root, encoder=encoder,
        regions=regions, size=48, mode="crops", map_side=160, precision="fp32", batch_size=10, compile=False,
        device="cpu", workers=1, engine=LocalEngine(1),
    )  # fmt: skip
    return out
