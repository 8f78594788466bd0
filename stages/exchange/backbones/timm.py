"""timm: backbones are made of its networks, so names stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from stages.exchange.backbones.pixels import normalisation
from stages.learning.backbones import Backbone

SUFFIXES: tuple[str, ...] = (".safetensors", ".pth")
ENVELOPE: Mapping[str, Any] | None = None


def tensors(backbone: Backbone) -> dict[str, Tensor]:
    return backbone.net.state_dict()


def network(backbone: Backbone) -> nn.Module:
    """The network as `timm.create_model(name, num_classes=0)` makes it."""
    if backbone.name not in timm.list_models():
        raise ValueError(
            f"timm has no network '{backbone.name}': that architecture is this project's own. Export to safetensors"
            " (or a widened ResNet to detectron2, which can build it)."
        )
    return timm.create_model(backbone.name, pretrained=False, **_arguments(backbone))


def _arguments(backbone: Backbone) -> dict[str, Any]:
    """What makes timm give the network its last norm where the backbone has it, before pooling.

    Some transformers move that norm, and rename it `fc_norm`, when they pool by averaging.
    """
    pooled = timm.create_model(backbone.name, pretrained=False, num_classes=0).state_dict().keys()
    return {"num_classes": 0} | ({} if pooled == backbone.net.state_dict().keys() else {"global_pool": ""})


def outputs(backbone: Backbone, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of both, timm's features before pooling."""
    features: Any = network
    return backbone.net.forward_features(x), features.forward_features(x)


def usage(backbone: Backbone, path: Path) -> str:
    arguments = "".join(f", {name}={value!r}" for name, value in _arguments(backbone).items())
    return (
        f"model = timm.create_model({backbone.name!r}{arguments}, checkpoint_path={str(path)!r})\n"
        f"{normalisation(backbone)}"
    )
