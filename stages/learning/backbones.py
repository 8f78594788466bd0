"""Backbones: any timm network that yields a feature map, fed with raw pixels."""

from __future__ import annotations

import difflib

import timm
import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A timm network without its classifier. It normalises uint8 pixels itself, so that batches travel as bytes.

    Input (N, 3, H, W) uint8 RGB; output the last feature map (N, C, h, w), C = `channels`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in timm.list_models():
            close = difflib.get_close_matches(name, timm.list_models(), n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise ValueError(f"backbone '{name}' is not a timm model.{hint} `timm.list_models()` lists all.")
        self.net = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
        self.channels = int(self.net.num_features)  # type: ignore[arg-type]  # timm models have no types
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            raise TypeError(f"a backbone takes uint8 pixels in 0..255 and normalises them itself, not {images.dtype}")
        x = (images.float() - self.mean) / self.std
        feature_map = self.net(x.contiguous(memory_format=torch.channels_last))
        if feature_map.ndim != 4:
            raise ValueError(
                f"{type(self.net).__name__} yields {tuple(feature_map.shape)}, not a feature map (N, C, h, w). "
                "Choose a convolutional backbone such as resnet50."
            )
        return feature_map
