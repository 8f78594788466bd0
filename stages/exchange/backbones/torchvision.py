"""torchvision: its ResNets have the names that timm's have, and a classifier `fc` besides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from stages.exchange.backbones.pixels import normalisation
from stages.learning.backbones import Backbone

SUFFIXES: tuple[str, ...] = (".pth", ".safetensors")
ENVELOPE: Mapping[str, Any] | None = None


def tensors(backbone: Backbone) -> dict[str, Tensor]:
    return backbone.net.state_dict()


def network(backbone: Backbone) -> nn.Module:
    """torchvision's network of the same name, its classifier replaced by nothing."""
    known = [
        name
        for name in torchvision.models.list_models(module=torchvision.models)
        if name.removeprefix("wide_").startswith(("resnet", "resnext"))
    ]
    if backbone.name not in known:
        raise ValueError(
            f"torchvision has no ResNet '{backbone.name}', only {', '.join(known)}. Export to timm or safetensors."
        )
    model: Any = torchvision.models.get_model(backbone.name, weights=None)
    model.fc = nn.Identity()
    return model


def outputs(backbone: Backbone, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of both, the map of the last stage."""
    return backbone.feature_map(x), create_feature_extractor(network, ["layer4"])(x)["layer4"]


def usage(backbone: Backbone, path: Path) -> str:
    load = "safetensors.torch.load_file({})" if path.suffix == ".safetensors" else "torch.load({}, weights_only=True)"
    return (
        f"model = torchvision.models.{backbone.name}()\n"
        "model.fc = torch.nn.Identity()\n"
        f"model.load_state_dict({load.format(repr(str(path)))})\n"
        f"{normalisation(backbone)}"
    )
