"""An encoder: a backbone with its projector, and the safetensors file that carries both between stages."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stages.learning.backbones import Backbone
from stages.learning.heads import Norm, mlp

ENCODER_FILE = "encoder.safetensors"


class Encoder(nn.Module):
    """Backbone f and projector g of one network: y = GAP(f(x)), z = g(y) with `dim` dimensions.

    Args:
        backbone: see `Backbone`.
        projector_hidden, projector_out, projector_layers, projector_norm: see `heads.mlp`.
    """

    def __init__(
        self,
        backbone: str,
        *,
        projector_hidden: int,
        projector_out: int,
        projector_layers: int = 2,
        projector_norm: Norm = "hidden",
    ) -> None:
        super().__init__()
        self.dim: int = projector_out
        self.settings: dict[str, int | str] = {
            "backbone": backbone,
            "projector_hidden": projector_hidden,
            "projector_out": projector_out,
            "projector_layers": projector_layers,
            "projector_norm": projector_norm,
        }
        self.backbone = Backbone(backbone)
        self.projector = mlp(
            self.backbone.channels, projector_hidden, projector_out, layers=projector_layers, norm=projector_norm
        )

    def features(self, images: Tensor) -> Tensor:
        """Global average of the last feature map. images: (N, 3, H, W) uint8 RGB. Returns (N, C), at least float32."""
        feature_map = self.backbone(images)
        return feature_map.mean(dim=(2, 3), dtype=torch.promote_types(feature_map.dtype, torch.float32))

    def project(self, features: Tensor) -> Tensor:
        """Projections, not normalised, of what `features` returns. features: (N, C) float32. Returns (N, D)."""
        return self.projector(features)

    def forward(self, images: Tensor) -> Tensor:
        """Projections, not normalised. images: (N, 3, H, W) uint8 RGB. Returns (N, D)."""
        return self.project(self.features(images))


def save_encoder(encoder: Encoder, directory: Path) -> None:
    """Writes `encoder.safetensors`: `backbone.*` and `projector.*`, with what is needed to rebuild it as metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    # Not `save_file`, whose errors (a full disk) are not the system's.
    (directory / ENCODER_FILE).write_bytes(save(tensors, metadata={"encoder": json.dumps(encoder.settings)}))


def load_encoder(directory: Path) -> Encoder:
    """The encoder that a training step wrote into `directory`, in eval mode, on the CPU, channels last.

    Raises:
        ValueError: the file was not written by this project, or its tensors do not fit its own settings.
    """
    path = directory / ENCODER_FILE
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "encoder" not in metadata:
            raise ValueError(
                f"{path} does not say which backbone it holds. Only files written by image_pretraining or "
                "object_pretraining carry that; give the directory of such an artifact."
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (`file` is no dict)
    encoder = Encoder(**json.loads(metadata["encoder"]))
    missing, unexpected = encoder.load_state_dict(tensors, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit {encoder.settings['backbone']}: missing {missing}, unexpected {unexpected}. "
            "It was probably written with another version of timm; train it again or install that version."
        )
    return encoder.eval().to(memory_format=torch.channels_last)


def random_encoder(seed: int, **settings: int | str) -> Encoder:
    """An untrained encoder with the given settings: the baseline that training has to beat."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(**settings)  # type: ignore[arg-type]  # the settings of another encoder
    return encoder.eval().to(memory_format=torch.channels_last)
