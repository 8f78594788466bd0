"""Encoders named by words, and their weights from everywhere they may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from stages.evaluation.encoders import EncoderSource, open_backbone
from stages.learning.encoder import Encoder, save_encoder


def opened(word: str, artifacts: Path) -> Any:
    return open_backbone(**EncoderSource.of(word, artifacts, seed=3)[1].arguments())


def same(network: torch.nn.Module, tensors: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, tensors[name]) for name, value in network.state_dict().items())


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return torchvision.models.resnet18().state_dict()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact that `latest/demo/object_pretraining` links to."""
    made = tmp_path / "object_pretraining" / ("a" * 12)
    made.mkdir(parents=True)
    torch.manual_seed(1)
    save_encoder(Encoder("conv4", projector_hidden=8, projector_out=4), made)
    link = tmp_path / "latest" / "demo" / "object_pretraining"
    link.parent.mkdir(parents=True)
    link.symlink_to(made)
    return tmp_path


@pytest.mark.parametrize("word", ["demo/object_pretraining", f"object_pretraining/{'a' * 12}"])
def test_an_artifact_by_its_config_or_version(artifact: Path, word: str) -> None:
    label, source = EncoderSource.of(word, artifact, seed=0)
    assert (label, source.kind) == (word, "artifact")
    assert source.file is not None
    assert source.file.is_file()
    assert opened(word, artifact).name == "conv4"


def test_a_label_goes_before_the_word() -> None:
    assert EncoderSource.of("base=random:conv4", Path(), seed=5) == ("base", EncoderSource("random", "conv4", None, 5))


def test_random_weights_follow_the_seed() -> None:
    first, again = (open_backbone(kind="random", backbone="conv4", path=None, seed=2) for _ in range(2))
    assert same(first, again.state_dict())
    assert not same(first, open_backbone(kind="random", backbone="conv4", path=None, seed=3).state_dict())
    assert not first.training


def test_a_file_of_a_method_with_two_networks(tmp_path: Path, resnet: dict[str, Tensor]) -> None:
    """MoCo's layout: the one that learned by gradient is taken, its head and the queue are left."""
    keys = {f"module.encoder_k.{name}": torch.zeros_like(value) for name, value in resnet.items()}
    queries = {f"module.encoder_q.{name}": value for name, value in resnet.items()}
    path = tmp_path / "moco.pth.tar"
    torch.save({"epoch": 7, "state_dict": keys | queries | {"module.queue": torch.zeros(2)}}, path)
    network = opened(str(path), tmp_path)
    assert network.name == "resnet18"
    assert same(network.net, resnet)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.online_backbone."])
def test_safetensors_with_any_prefix(tmp_path: Path, resnet: dict[str, Tensor], prefix: str) -> None:
    save_file({prefix + name: value for name, value in resnet.items()}, tmp_path / "weights.safetensors")
    assert same(opened(str(tmp_path / "weights.safetensors"), tmp_path).net, resnet)


def test_a_transformer_tells_its_architecture(tmp_path: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save({"teacher": {f"backbone.{name}": value for name, value in network.state_dict().items()}},
               tmp_path / "dino.pth")  # fmt: skip
    assert opened(str(tmp_path / "dino.pth"), tmp_path).name == "vit_tiny_patch16_224"


def test_another_architecture_is_refused(tmp_path: Path, resnet: dict[str, Tensor]) -> None:
    torch.save(resnet, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"no resnet50: \d+ of its \d+ tensors are missing.*FILE@BACKBONE"):
        opened(f"{tmp_path / 'w.pth'}@resnet50", tmp_path)


def test_an_architecture_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth@BACKBONE"):
        opened(str(tmp_path / "w.pth"), tmp_path)


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Harmful()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="can't be read as tensors alone"):
        opened(str(tmp_path / "w.pth"), tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for name, words in (("w.pth", r"w\.pth can't be read"), ("w.safetensors", r"w\.safetensors is damaged")):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=words):
            opened(str(tmp_path / name), tmp_path)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("demo/nothing", "random:resnet50, timm:NAME"),
        ("timm:resnet5", "Did you mean"),
        ("torchvision:vgg11", "known are .*resnet50"),
        ("torchvision:resnet50.V9", "IMAGENET1K_V2"),
    ],
)
def test_a_word_that_names_nothing(tmp_path: Path, word: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EncoderSource.of(word, tmp_path, seed=0)
