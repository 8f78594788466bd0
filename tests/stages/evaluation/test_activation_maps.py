"""Activation maps: what they are made of, and the picture of several encoders side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.data.catalog import Catalog
from stages.evaluation.activation_maps import activation_map, run
from stages.evaluation.encoders import open_backbone
from stages.learning.backbones import Backbone
from stages.report import Report


def encoder(backbone: str, seed: int = 0) -> dict[str, Any]:
    return {"kind": "random", "backbone": backbone, "path": None, "seed": seed}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def transformer() -> Backbone:
    return open_backbone(**encoder("vit_tiny_patch16_224"))


def test_contributions_add_up_to_the_length_of_the_embedding(images: Tensor) -> None:
    backbone = open_backbone(**encoder("conv4"))
    found = activation_map(backbone, images, "contribution")
    with torch.inference_mode():
        embedding = backbone(images).mean(dim=(2, 3))
    torch.testing.assert_close(found.mean(dim=(1, 2)), embedding.norm(dim=1))


def test_energy_is_the_squared_length_of_each_place(images: Tensor) -> None:
    backbone = open_backbone(**encoder("conv4"))
    with torch.inference_mode():
        features = backbone(images).numpy()
    expected = [[[sum(v * v for v in image[:, i, j]) for j in range(8)] for i in range(8)] for image in features]
    np.testing.assert_allclose(activation_map(backbone, images, "energy").numpy(), expected, rtol=1e-5)


def test_a_bright_spot_is_found_where_it_is() -> None:
    dark = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    spot = dark.clone()
    spot[..., 40:56, 8:24] = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(1)).byte()
    backbone = open_backbone(**encoder("conv4"))
    found = (activation_map(backbone, spot, "energy") - activation_map(backbone, dark, "energy"))[0].abs()
    row, column = divmod(int(found.argmax()), found.shape[1])
    assert 4 <= row <= 7
    assert 0 <= column <= 3


def test_attention_of_the_class_token_is_what_the_network_itself_computes(
    images: Tensor, transformer: Backbone
) -> None:
    """timm's block, asked to compute attention step by step, drops out its weights at this place."""
    attention: Any = transformer.net.blocks[-1].attn
    seen: list[Tensor] = []
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        found = activation_map(transformer, images, "attention")
    finally:
        hook.remove()
        attention.fused_attn = True
    torch.testing.assert_close(found, seen[0].mean(dim=1)[:, 0, 1:].reshape(2, 4, 4))


def test_a_network_without_class_token_has_no_attention(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"conv4 has no class token.*method=contribution"):
        activation_map(open_backbone(**encoder("conv4")), images, "attention")


def test_the_picture_has_a_row_a_photo_and_a_column_an_encoder(photo_catalog: Catalog, tmp_path: Path) -> None:
    encoders = {"first": encoder("conv4"), "second": encoder("conv4", seed=1)}
    arguments: dict[str, Any] = {
        "report": Report(), "test": photo_catalog.directory, "test_root": photo_catalog.root, "number": 3,
        "method": "contribution", "size": 64, "device": "cpu",
    }  # fmt: skip
    run(out=tmp_path, encoders=encoders, photos=[], **arguments)
    with np.load(tmp_path / "activation_maps.npz", allow_pickle=False) as maps:
        assert maps["encoders"].tolist() == ["first", "second"]
        assert maps["maps_0"].shape == maps["maps_1"].shape == (3, 8, 8)
        assert not np.allclose(maps["maps_0"], maps["maps_1"])
        names = maps["photos"].tolist()
    assert names == [photo_catalog.name(each) for each in (0, 4, 7)]
    with Image.open(tmp_path / "activation_maps.png") as three:
        high, wide = three.height, three.width

    name = photo_catalog.name(5)
    run(out=tmp_path, encoders={"first": encoders["first"]}, photos=[name], **arguments)
    with np.load(tmp_path / "activation_maps.npz", allow_pickle=False) as maps:
        assert maps["photos"].tolist() == [name]
    with Image.open(tmp_path / "activation_maps.png") as one:
        assert one.height < high / 2
        assert one.width < wide


def test_an_unknown_photo_or_method_is_refused(photo_catalog: Catalog, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "out": tmp_path, "report": Report(), "encoders": {"a": encoder("conv4")}, "test": photo_catalog.directory,
        "test_root": photo_catalog.root, "number": 1, "size": 64, "device": "cpu",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"no photo nowhere.jpg in .*such as first/"):
        run(photos=["nowhere.jpg"], method="energy", **arguments)
    with pytest.raises(ValueError, match="method 'cam' is unknown: choose one of contribution"):
        run(photos=[], method="cam", **arguments)
