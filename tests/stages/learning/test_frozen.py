"""The frozen network says what its encoder says, in any precision, compiled or not."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch._inductor.utils import fresh_cache
from torch.nn.functional import cosine_similarity

from stages.data.catalog import Catalog
from stages.learning.encoder import Encoder, random_encoder
from stages.learning.frozen import PAYS_FROM, Frozen, fold_batch_norms

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def crops(photo_catalog: Catalog) -> Tensor:
    """(48, 3, 64, 64) uint8: squares of real photographs, channels last in memory."""
    squares = []
    for image in range(len(photo_catalog)):
        photo = torch.from_numpy(photo_catalog.pixels(image))
        grid = photo.unfold(0, 64, 48).unfold(1, 64, 48).flatten(0, 1)  # (n, 3, 64, 64)
        squares.append(grid[torch.linspace(0, len(grid) - 1, 6).long()])
    return torch.cat(squares).contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def encoder(crops: Tensor) -> Encoder:
    """As if trained: its batch norms have the statistics of real crops, and scales and offsets of their own.

    Those that start a residual branch at 0 have small scales: at 1, an untrained network is chaotic.
    """
    encoder = random_encoder(0, backbone="resnet18", projector_hidden=64, projector_out=32)
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in encoder.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    with torch.no_grad():
        for norm in norms:
            branch = 1.0 if norm.weight.any() else 0.1
            norm.weight.uniform_(0.8 * branch, 1.2 * branch, generator=generator)
            norm.bias.uniform_(-0.2, 0.2, generator=generator)
            norm.momentum = None  # the statistics are those of all batches
            norm.reset_running_stats()
        encoder.train()(crops)
    return encoder.eval()


def about_their_mean(features: Tensor) -> Tensor:
    """Without it, any two features of an encoder look alike."""
    return features - features.mean(dim=0)


def same(found: Tensor, expected: Tensor) -> bool:
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    plain = cosine_similarity(found, expected).min()
    centred = cosine_similarity(about_their_mean(found), about_their_mean(expected)).min()
    return bool(plain > 0.999 and centred > 0.998)


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_features_and_projections_are_those_of_the_encoder(encoder: Encoder, crops: Tensor, precision: str) -> None:
    network = Frozen(encoder, CPU, precision=precision)
    with torch.inference_mode():
        assert same(network.features(crops), encoder.features(crops))
        assert same(network.project(crops), encoder(crops))
        expected = encoder.backbone(crops)
    assert same(network.feature_map(crops).float().flatten(1), expected.flatten(1))
    assert (network.channels, network.dim) == (512, 32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_for_one_size_of_batch(encoder: Encoder, crops: Tensor, precision: str) -> None:
    network = Frozen(encoder, CPU, precision=precision, compile=True)
    with torch.inference_mode():
        expected = encoder.features(crops)
    features = network.features(crops[:16])
    assert same(features, expected[:16])
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert torch.equal(network.features(crops[:16].contiguous()), features)
        assert torch.equal(network.features(crops[:3]), features[:3])
        assert torch.equal(network.features(crops[13:14]), network.features(crops[:16])[13:14])


def test_does_without_a_compiler(encoder: Encoder, crops: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    network = Frozen(encoder, CPU, precision="fp32", compile=True)
    with fresh_cache(), inductor.patch({"cpp.cxx": (None, "no-such-compiler")}), caplog.at_level(logging.WARNING):
        rows = [network.features(crops[:4]), network.features(crops[:4])]
    expected = Frozen(encoder, CPU, precision="fp32").features(crops[:4])
    assert all(torch.equal(found, expected) for found in rows)
    messages = [record.message for record in caplog.records if record.name == "stages.learning.frozen"]
    assert len(messages) == 1
    assert "could not be compiled" in messages[0]


def test_compiles_where_it_pays(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, compiled = torch.compile, []

    def noted(function: Callable, **settings: Any) -> Callable:
        compiled.append(function.__name__)
        return real(function, **settings)

    monkeypatch.setattr(torch, "compile", noted)
    Frozen(encoder, CPU, expected=PAYS_FROM - 1)
    Frozen(encoder, CPU, expected=PAYS_FROM, compile=False)
    assert not compiled
    Frozen(encoder, CPU, expected=PAYS_FROM)
    assert compiled == ["features"]


def test_images_that_do_not_fit_get_the_encoders_own_error(crops: Tensor) -> None:
    network = Frozen(random_encoder(0, backbone="test_vit", projector_hidden=8, projector_out=8), CPU, compile=True)
    with pytest.raises(ValueError, match="takes no images of 61 x 64 pixels"):
        network.features(crops[:2, :, :, :61])


def test_the_encoder_stays_as_it_is(encoder: Encoder, crops: Tensor) -> None:
    before = copy.deepcopy(encoder.state_dict())
    encoder.train()
    Frozen(encoder, CPU).features(crops[:2])
    assert encoder.training
    encoder.eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize(("backbone", "left"), [("resnet18", 0), ("mobilenetv3_small_050", 0), ("convnext_atto", 0)])
def test_batch_norms_are_folded_exactly(backbone: str, left: int) -> None:
    net = random_encoder(0, backbone=backbone, projector_hidden=8, projector_out=8).backbone.net.double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low, high in (("running_mean", -1, 1), ("running_var", 0.5, 2), ("weight", 0.5, 1.5)):
                nn.init.uniform_(getattr(module, name), low, high)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = net(images)
        fold_batch_norms(net)
        torch.testing.assert_close(net(images), expected)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == left


class _Branching(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


def test_what_must_not_be_folded_is_not() -> None:
    def fold(net: nn.Sequential) -> tuple[type[nn.Module], ...]:
        fold_batch_norms(net.eval())
        return tuple(type(module) for module in net)

    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    assert fold(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))) == (nn.Conv2d, nn.Identity)
    assert fold(_Branching(conv, norm)) == (nn.Conv2d, nn.BatchNorm2d)  # cannot be traced
    assert fold(nn.Sequential(conv, norm, conv)) == (nn.Conv2d, nn.BatchNorm2d, nn.Conv2d)  # used twice
    assert fold(nn.Sequential(norm, nn.ReLU(), nn.BatchNorm2d(3)))[2] is nn.BatchNorm2d  # after no convolution
