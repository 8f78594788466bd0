"""Backbones exported to other libraries: loaded there as a user would, with the features that they have here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from stages.evaluation.encoders import open_backbone
from stages.exchange.backbones import detectron2, export_backbone, refuse_other_tensors
from stages.exchange.backbones.detectron2 import DetectronResNet
from stages.learning.backbones import Backbone
from stages.learning.encoder import random_encoder, save_encoder


def random(backbone: str) -> dict[str, Any]:
    return {"kind": "random", "backbone": backbone, "path": None, "seed": 0}


def changed(backbone: str) -> Backbone:
    """A backbone whose batch norms have other scales, shifts and statistics than fresh ones, which are all alike."""
    network = Backbone(backbone).eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in network.net.state_dict().values():
        if tensor.ndim < 2:
            tensor += 0.1 * torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else 7
    return network


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(changed("resnet18").net.state_dict(), path)
    return {"kind": "file", "backbone": "resnet18", "path": path, "seed": 0}


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def ours(encoder: dict[str, Any], x: Tensor) -> Tensor:
    return open_backbone(**encoder).feature_map(x)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@torch.inference_mode()
def test_timm_loads_the_file_and_has_our_features(
    trained: dict[str, Any], x: Tensor, tmp_path: Path, name: str
) -> None:
    exported = export_backbone(trained, "timm", tmp_path / name)
    model = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(tmp_path / name)).eval()
    torch.testing.assert_close(model.forward_features(x), ours(trained, x))
    assert exported.tensors == len(model.state_dict())
    assert 0 <= exported.difference <= 1e-4 * exported.scale
    assert "timm.create_model('resnet18', num_classes=0, checkpoint_path=" in exported.usage


@torch.inference_mode()
def test_torchvision_loads_the_file_and_has_our_features(trained: dict[str, Any], x: Tensor, tmp_path: Path) -> None:
    exported = export_backbone(trained, "torchvision", tmp_path / "resnet18.pth")
    model: Any = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict(torch.load(tmp_path / "resnet18.pth", weights_only=True))
    pooled = ours(trained, x).mean(dim=(2, 3))
    torch.testing.assert_close(model.eval()(x), pooled)
    assert "torchvision.models.resnet18()" in exported.usage


@torch.inference_mode()
def test_a_checkpoint_for_detectron2_has_its_names(trained: dict[str, Any], tmp_path: Path) -> None:
    exported = export_backbone(trained, "detectron2", tmp_path / "resnet18.pth")
    content = torch.load(tmp_path / "resnet18.pth", weights_only=True)
    assert content["matching_heuristics"] is True
    names = content["model"].keys()
    assert {"stem.conv1.weight", "stem.conv1.norm.running_var", "res2.0.conv2.norm.bias"} <= names
    assert {"res5.1.conv2.weight", "res3.0.shortcut.weight", "res3.0.shortcut.norm.weight"} <= names
    assert "res2.0.shortcut.weight" not in names
    assert "STRIDE_IN_1X1: False" in exported.usage
    assert "RES2_OUT_CHANNELS: 64" in exported.usage
    assert "PIXEL_MEAN: [123.675, 116.28, 103.53]" in exported.usage


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("resnext50_32x4d", ["DEPTH: 50", "RES2_OUT_CHANNELS: 256", "NUM_GROUPS: 32", "WIDTH_PER_GROUP: 4"]),
        pytest.param(
            "resnet50w2",
            ["STEM_OUT_CHANNELS: 128", "RES2_OUT_CHANNELS: 512", "NUM_GROUPS: 1", "WIDTH_PER_GROUP: 128"],
            marks=pytest.mark.slow,
        ),
    ],
)
@torch.inference_mode()
def test_bottlenecks_wide_and_grouped_ones_too_for_detectron2(backbone: str, settings: list[str], x: Tensor) -> None:
    network = changed(backbone)
    for_detectron2 = detectron2.network(network).eval()
    for_detectron2.load_state_dict(detectron2.tensors(network))
    mine, theirs = detectron2.outputs(network, for_detectron2, x[:1])
    torch.testing.assert_close(mine, theirs)
    usage = detectron2.usage(network, Path("weights.pth"))
    assert all(setting in usage for setting in settings)


@torch.inference_mode()
def test_a_safetensors_file_of_any_backbone_opens_as_an_encoder(x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "conv4.safetensors"
    exported = export_backbone(random("conv4"), "safetensors", path)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"backbone": "conv4", "library": "safetensors"}
    again = {"kind": "file", "backbone": "conv4", "path": path, "seed": 0}
    torch.testing.assert_close(ours(again, x), ours(random("conv4"), x))
    assert exported.difference == 0


@torch.inference_mode()
def test_of_a_trained_encoder_the_projector_stays_behind(x: Tensor, tmp_path: Path) -> None:
    encoder = random_encoder(3, backbone="conv4", projector_hidden=8, projector_out=4)
    save_encoder(encoder, tmp_path)
    artifact = {"kind": "artifact", "backbone": None, "path": tmp_path, "seed": 0}
    export_backbone(artifact, "safetensors", tmp_path / "conv4.safetensors")
    tensors = load_file(tmp_path / "conv4.safetensors")
    assert tensors.keys() == encoder.backbone.net.state_dict().keys()
    torch.testing.assert_close(tensors["0.weight"], encoder.backbone.net[0].weight)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = Backbone("conv4").net
    torch.nn.init.constant_(network[0].weight, float("nan"))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = {"kind": "file", "backbone": "conv4", "path": tmp_path / "weights.pth", "seed": 0}
    with pytest.raises(ValueError, match="conv4 has features that are not finite"):
        export_backbone(encoder, "safetensors", tmp_path / "conv4.safetensors")


@torch.inference_mode()
def test_a_vision_transformer_goes_to_timm(tmp_path: Path) -> None:
    encoder = random("vit_tiny_patch16_224")
    exported = export_backbone(encoder, "timm", tmp_path / "vit.safetensors")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    model.load_state_dict(load_file(tmp_path / "vit.safetensors"))
    assert exported.difference <= 1e-4 * exported.scale


@pytest.mark.parametrize(
    ("backbone", "to", "name", "words"),
    [
        ("conv4", "timm", "a.pth", "timm has no network 'conv4'.*safetensors"),
        ("resnet10t", "torchvision", "a.pth", "torchvision has no ResNet 'resnet10t'"),
        ("resnet10t", "detectron2", "a.pth", "resnet10t is none with a stem of one 7 x 7"),
        ("conv4", "detectron2", "a.pth", "conv4 is none"),
        ("conv4", "onnx", "a.pth", "no export to 'onnx': choose one of timm"),
        ("conv4", "safetensors", "a.pth", r"safetensors reads no '.pth' files. End the name in .safetensors"),
    ],
)
def test_what_a_library_cannot_have_is_refused(backbone: str, to: str, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        export_backbone(random(backbone), to, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_tensors_missing_left_over_or_misshapen_are_named() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    state = network.state_dict()
    bad = {
        "0.weight": state["0.weight"].T,
        "0.bias": state["0.bias"],
        "1.weight": state["1.weight"],
        "extra": torch.ones(1),
    }
    with pytest.raises(
        ValueError, match=r"1 missing \(1.bias\); 1 left over \(extra\); 1 of another shape \(0.weight \(3, 2\)"
    ):
        refuse_other_tensors(bad, network, "net", "timm")
    refuse_other_tensors(state, network, "net", "timm")


def test_a_network_of_other_features_is_refused_and_leaves_no_file(
    trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stride in the wrong place has the right names and shapes: only running both networks shows it."""
    build = DetectronResNet._stage

    def stride_in_the_second_convolution(shape: Any, number: int) -> torch.nn.Sequential:
        stage = build(shape, number)
        first: Any = stage[0]
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
        return stage

    monkeypatch.setattr(DetectronResNet, "_stage", staticmethod(stride_in_the_second_convolution))
    with pytest.raises(ValueError, match="features that differ by"):
        export_backbone(trained, "detectron2", tmp_path / "weights.pth")
    assert not list(tmp_path.iterdir())


def test_every_tensor_of_a_resnet_gets_a_name_of_its_own_in_detectron2() -> None:
    network = Backbone("resnet18")
    renamed = detectron2.tensors(network)
    assert len(renamed) == len(network.net.state_dict())
    assert all(name.startswith(("stem.", "res2.", "res3.", "res4.", "res5.")) for name in renamed)
