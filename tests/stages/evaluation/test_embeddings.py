from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.loading import photo_loader
from stages.evaluation.embeddings import embed, load_with_baselines
from stages.evaluation.pictures import central_views, draw, evenly_spread
from stages.learning.encoder import random_encoder, save_encoder
from stages.process import pool
from stages.report import Report

TINY = {"backbone": "test_resnet", "projector_hidden": 16, "projector_out": 8}


def saved(directory: Path, seed: int, **settings: int | str) -> Path:
    directory.mkdir()
    save_encoder(random_encoder(seed, **(TINY | settings)), directory)
    return directory


def test_one_baseline_an_architecture(tmp_path):
    first, second, wide = saved(tmp_path / "a", 1), saved(tmp_path / "b", 2), saved(tmp_path / "c", 3, projector_out=12)
    assert list(load_with_baselines({"first": first, "second": second}, 0)) == ["first", "second", "random"]
    both = load_with_baselines({"first": first, "wide": wide}, 0)
    assert list(both) == ["first", "wide", "random", "random (wide)"]
    assert both["random (wide)"].settings == both["wide"].settings
    with pytest.raises(ValueError, match="untrained baseline has that name"):
        load_with_baselines({"random": first}, 0)


def test_rows_do_not_depend_on_how_pictures_are_batched():
    encoders = {str(seed): random_encoder(seed, **TINY) for seed in (1, 2)}
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (23, 3, 32, 32), dtype=np.uint8))

    def rows(pieces: int, batch_size: int):
        return embed(
            encoders, pictures.split(pieces),
            total=23, unit="pictures", batch_size=batch_size, device=torch.device("cpu"), report=Report(),
        )  # fmt: skip

    once = rows(23, 64)
    for pieces, batch_size in ((1, 4), (7, 5), (23, 23), (10, 10)):
        for name, embedded in rows(pieces, batch_size).items():
            np.testing.assert_allclose(embedded.features, once[name].features, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(embedded.projections, once[name].projections, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        np.testing.assert_allclose(once["1"].projections, encoders["1"](pictures).numpy(), rtol=1e-4, atol=1e-5)


def test_missing_pictures_are_noticed():
    encoders = {"a": random_encoder(0, **TINY)}
    with pytest.raises(RuntimeError, match="3 views came where 4 were due"):
        embed(
            encoders, [torch.zeros(3, 3, 32, 32, dtype=torch.uint8)],
            total=4, unit="views", batch_size=2, device=torch.device("cpu"), report=Report(),
        )  # fmt: skip


def test_the_middle_of_photos_is_that_of_the_photo_loader(photo_catalog):
    loaded = torch.cat([batch for _, batch in photo_loader(photo_catalog, resize=72, crop=64, batch_size=8, workers=0)])
    views = central_views(photo_catalog, np.arange(8), resize=72, crop=64)
    with pool(1) as processes:
        drawn = torch.cat(list(draw(processes, photo_catalog, views)))
    assert drawn.shape == loaded.shape
    assert drawn.dtype == torch.uint8
    difference = (drawn.float() - loaded.float()).abs().mean(dim=(1, 2, 3))
    # The loader rounds the crop to whole pixels of the resized photo: up to half a pixel apart.
    shifted = (loaded.roll(1, dims=3).float() - loaded.float()).abs().mean(dim=(1, 2, 3))
    assert (difference < 0.6 * shifted).all(), (difference, shifted)


def test_a_photo_that_is_gone_is_named(make_catalog):
    catalog = make_catalog("c", 3, [])
    with pool(1) as processes, pytest.raises(RuntimeError, match=r"1\.jpg could be used when the catalog was made"):
        list(draw(processes, catalog, central_views(catalog, np.array([1]), resize=40, crop=32)))


@pytest.mark.parametrize(("total", "at_most", "expected"), [(3, 9, [0, 1, 2]), (9, 3, [0, 4, 8]), (1, 5, [0])])
def test_evenly_spread(total, at_most, expected):
    assert evenly_spread(total, at_most).tolist() == expected
