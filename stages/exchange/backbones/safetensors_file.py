"""A safetensors file with timm's names, for any backbone; this project reads it back as an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stages.exchange.backbones.pixels import normalisation
from stages.learning.backbones import Backbone

SUFFIXES: tuple[str, ...] = (".safetensors",)
ENVELOPE: Mapping[str, Any] | None = None


def tensors(backbone: Backbone) -> dict[str, Tensor]:
    return backbone.net.state_dict()


def network(backbone: Backbone) -> nn.Module:
    return Backbone(backbone.name).net


def outputs(backbone: Backbone, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of both, what the network itself gives."""
    return backbone.net(x), network(x)


def usage(backbone: Backbone, path: Path) -> str:
    return (
        f"tensors = safetensors.torch.load_file({str(path)!r})  # parameters and buffers of {backbone.name}\n"
        f"orl evaluate {path}@{backbone.name} --on SUITE  # in this project\n"
        f"{normalisation(backbone)}"
    )
