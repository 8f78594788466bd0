"""Encoders and the file that carries them between stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.learning.encoder import ENCODER_FILE, Encoder, load_encoder, random_encoder, save_encoder

TINY = {"backbone": "test_resnet", "projector_hidden": 16, "projector_out": 8}
DEFAULTS = {"projector_layers": 2, "projector_norm": "hidden"}
OTHERS = {"projector_layers": 3, "projector_norm": "all"}


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_projections_are_made_of_the_mean_of_the_map(images: Tensor):
    encoder = random_encoder(0, **TINY)
    features = encoder.features(images)
    torch.testing.assert_close(features, encoder.backbone(images).mean(dim=(2, 3)))
    torch.testing.assert_close(encoder(images), encoder.project(features))
    assert encoder(images).shape == (4, encoder.dim) == (4, 8)


def test_features_are_float32_in_lower_precision_too(images: Tensor):
    with torch.autocast("cpu", torch.bfloat16):
        assert random_encoder(0, **TINY).features(images).dtype == torch.float32


@pytest.mark.parametrize("settings", [TINY, TINY | OTHERS, TINY | {"backbone": "test_vit"}])
def test_a_file_gives_the_same_encoder_back(settings: dict, images: Tensor, tmp_path: Path):
    encoder = random_encoder(0, **settings)
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded.settings == encoder.settings == DEFAULTS | settings
    assert not loaded.training
    assert torch.equal(loaded(images), encoder(images))


def test_a_file_written_before_projectors_had_kinds_still_loads(images: Tensor, tmp_path: Path):
    encoder = random_encoder(0, **TINY)
    save_encoder(encoder, tmp_path)
    save_file(load_file(tmp_path / ENCODER_FILE), tmp_path / ENCODER_FILE, metadata={"encoder": json.dumps(TINY)})
    loaded = load_encoder(tmp_path)
    assert loaded.settings == TINY | DEFAULTS
    assert torch.equal(loaded(images), encoder(images))


def test_a_strangers_file_is_refused(tmp_path: Path):
    save_file({"weight": torch.zeros(1)}, tmp_path / ENCODER_FILE)
    with pytest.raises(ValueError, match="does not say which backbone it holds"):
        load_encoder(tmp_path)


def test_a_file_with_other_tensors_is_refused(tmp_path: Path):
    encoder = random_encoder(0, **TINY)
    encoder.settings["projector_norm"] = "none"
    save_encoder(encoder, tmp_path)
    with pytest.raises(ValueError, match=r"does not fit test_resnet: missing \['projector.2.weight'"):
        load_encoder(tmp_path)


def test_a_random_encoder_depends_on_its_seed_alone(images: Tensor):
    before = torch.get_rng_state()
    first, again, other = (random_encoder(seed, **TINY)(images) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_impossible_projector_is_refused():
    with pytest.raises(ValueError, match="norm 'layer' of a head"):
        Encoder(**TINY, projector_norm="layer")
