from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import AvgPool2d

from stages.data.catalog import Catalog
from stages.evaluation import features
from stages.evaluation.encoders import open_backbone
from stages.evaluation.pyramid import Pyramid
from stages.report import Report

RESNET = {"kind": "random", "backbone": "resnet10t", "path": None, "seed": 0}
DEPTHS = ("gap", "conv1", "layer1", "layer2", "layer3", "layer4")
# Window, stride, padding of the official code; channels of ResNet-50, side of its map at 224 pixels, and what the
# official features have: 9216, 9216, 8192, 9216, 8192 numbers.
OFFICIAL = {
    "conv1": (10, 10, 4, 64, 112, 9216),
    "layer1": (16, 8, 0, 256, 56, 9216),
    "layer2": (13, 5, 0, 512, 28, 8192),
    "layer3": (8, 3, 0, 1024, 14, 9216),
    "layer4": (6, 1, 0, 2048, 7, 8192),
}


def extract(out: Path, photos: Catalog, report: Report | None = None, **changes: Any) -> Path:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "encoder": RESNET, "catalog": photos.directory, "root": photos.root, "picture": "squeeze", "resize": 72,
        "crop": 64, "depths": DEPTHS, "batch_size": 3, "device": "cpu", "workers": 0,
    }  # fmt: skip
    features.run(out=out, report=report or Report(), **(settings | changes))
    return out


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    return Pyramid(open_backbone(**RESNET)).eval()


@pytest.mark.parametrize("depth", OFFICIAL)
def test_pooling_is_the_official_one_on_224_pixels(depth):
    window, stride, padding, channels, side, dims = OFFICIAL[depth]
    feature_map = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    expected = AvgPool2d(window, stride, padding)(feature_map).flatten(1)
    got = features.pooled(feature_map, depth)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert got.shape == (2, dims)


def test_maps_of_other_sizes_are_pooled_over_the_same_share_of_the_picture():
    small = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # the same picture, twice as finely
    for depth in ("layer1", "layer2", "layer4"):
        torch.testing.assert_close(features.pooled(small, depth), features.pooled(large, depth))
    wide = torch.ones(1, 3, 5, 9)
    torch.testing.assert_close(features.pooled(wide, "layer4"), torch.ones(1, 12))


def test_rows_are_the_features_of_the_squeezed_photos(tmp_path, photo_catalog, pyramid):
    report = Report()
    out = extract(tmp_path / "out", photo_catalog, report)
    dims = {"gap": 512, "conv1": 9216, "layer1": 2304, "layer2": 2048, "layer3": 2304, "layer4": 2048}
    assert report.metrics == {"photos": 8, "dims": dims}
    assert features.describe_features(out) == {
        "picture": "squeeze", "resize": 72, "crop": 64, "photos": 8, "dims": dims,
    }  # fmt: skip
    photo = Image.open(photo_catalog.path(5)).convert("RGB")
    width, height = photo.size
    shorter = 72 / min(width, height)
    photo = photo.resize((int(width * shorter), int(height * shorter)), Image.Resampling.BILINEAR)
    pixels = np.array(photo.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
    with torch.inference_mode():
        maps = dict(zip(pyramid.names, pyramid(pyramid.normalise(torch.from_numpy(pixels))), strict=True))
    for depth in DEPTHS:
        rows = features.open_features(out, depth, photo_catalog)
        assert isinstance(rows, np.memmap)
        assert (rows.dtype, rows.shape) == (np.float32, (8, dims[depth]))
        expected = maps["layer4"].mean((2, 3)) if depth == "gap" else features.pooled(maps[depth], depth)
        np.testing.assert_allclose(rows[5], expected[0], rtol=1e-4, atol=1e-5)


def test_the_middle_of_photos(tmp_path, photo_catalog):
    cropped = extract(tmp_path / "a", photo_catalog, picture="crop", depths=["gap"])
    squeezed = extract(tmp_path / "b", photo_catalog, depths=["gap"])
    rows = [features.open_features(out, "gap", photo_catalog) for out in (cropped, squeezed)]
    sizes = photo_catalog.sizes
    square = sizes[:, 0] == sizes[:, 1]
    assert not np.allclose(rows[0][~square], rows[1][~square], atol=1e-3)


def test_a_killed_run_goes_on_where_it_was(tmp_path, photo_catalog):
    whole = extract(tmp_path / "whole", photo_catalog, depths=["gap", "layer4"])
    part = extract(tmp_path / "part", photo_catalog, depths=["gap", "layer4"])
    # As a kill leaves it: five rows are safe, the others were never written.
    for depth in ("gap", "layer4"):
        rows = np.lib.format.open_memmap(part / f"{depth}.npy", mode="r+")
        rows[5:] = 0
        rows[0] = -1  # to see that it is not made again
        rows.flush()
    (part / "scratch" / "rows.json").write_text(json.dumps({"rows": 5}))

    class Told(Report):
        done: list[int] = []  # noqa: RUF012

        def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
            self.done.append(done)

    extract(part, photo_catalog, Told(), depths=["gap", "layer4"])
    assert Told.done == [8]
    for depth in ("gap", "layer4"):
        got, expected = (features.open_features(out, depth, photo_catalog) for out in (part, whole))
        assert (got[0] == -1).all()
        np.testing.assert_allclose(got[1:], expected[1:], rtol=1e-4, atol=1e-5)


def test_what_is_left_of_other_settings_is_made_again(tmp_path, photo_catalog):
    out = extract(tmp_path / "out", photo_catalog, depths=["gap"])
    (out / "scratch" / "rows.json").write_text(json.dumps({"rows": 8}))
    np.save(out / "gap.npy", np.zeros((8, 3), np.float32))
    extract(out, photo_catalog, depths=["gap"])
    assert features.open_features(out, "gap", photo_catalog).shape == (8, 512)


def test_a_network_that_is_no_resnet_has_its_average(tmp_path, photo_catalog):
    conv4 = RESNET | {"backbone": "conv4"}
    out = extract(tmp_path / "out", photo_catalog, encoder=conv4, depths=["gap"])
    assert features.open_features(out, "gap", photo_catalog).shape == (8, 256)
    with pytest.raises(ValueError, match="'gap' is there for every network"):
        extract(tmp_path / "deep", photo_catalog, encoder=conv4, depths=["layer4"])


def test_errors_say_what_to_do(tmp_path, photo_catalog, make_catalog, monkeypatch):
    out = extract(tmp_path / "out", photo_catalog, depths=["gap"])
    with pytest.raises(ValueError, match="squeeze, crop"):
        extract(tmp_path / "a", photo_catalog, picture="pad")
    with pytest.raises(ValueError, match="has features at gap, and none at 'layer4'"):
        features.open_features(out, "layer4", photo_catalog)
    with pytest.raises(ValueError, match="they are not of one run"):
        features.open_features(out, "gap", make_catalog("other", 3, []))

    def broken(**encoder: Any) -> Any:
        backbone = open_backbone(**encoder)
        backbone.net.layer4[0].conv1.weight.data[0] = torch.nan
        return backbone

    monkeypatch.setattr(features, "open_backbone", broken)
    with pytest.raises(ValueError, match="not finite at gap, from photo 0 on"):
        extract(tmp_path / "b", photo_catalog, depths=["gap", "layer3"])
