"""ResNet-50 on batches of 224 x 224 crops: ours against float32 as PyTorch has it, and how alike the features are."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.correspondence.part import Setup, median, timed
from stages.learning.encoder import Encoder, random_encoder
from stages.learning.frozen import Frozen


def measure(setup: Setup) -> dict[str, Any]:
    backbone, side, batch = ("test_resnet", 32, 4) if setup.quick else ("resnet50", 224, 64)
    photos = setup.data.standard_photos(setup.pick(16, 2))
    pixels = np.stack([cv2.resize(photos[k % len(photos)], (side, side)) for k in range(batch)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(setup.device)
    encoder = random_encoder(0, backbone=backbone, projector_hidden=64, projector_out=32).to(setup.device).eval()
    ways = {"fp32_eager": functools.partial(plain_features, encoder, images)}
    frozen = {name: Frozen(encoder, setup.device, compile=name == "ours") for name in ("ours", "ours_uncompiled")}
    setup.say(f"embedding: {backbone}, batches of {batch}, {frozen['ours'].precision}; compiling")
    for name, network in frozen.items():
        ways[name] = functools.partial(_finished, network, images)
        ways[name]()
    setup.say("embedding: compiled")
    figures = {"precision": frozen["ours"].precision} | timed(ways, setup.rounds, "fp32_eager", batch)
    expected = plain_features(encoder, images)
    cosines = {name: cosine_similarity(network.features(images), expected) for name, network in frozen.items()}
    figures["least_cosine"] = {name: float(values.min()) for name, values in cosines.items()}
    headline = {"embedding_vs_fp32": median(figures, "ours"), "embedding_cosine": min(figures["least_cosine"].values())}
    return figures | {"headline": headline}


@torch.inference_mode()
def plain_features(encoder: Encoder, images: Tensor) -> Tensor:
    """Features as the network gives them in float32, on the CPU. images: (N, 3, S, S) uint8."""
    return encoder.features(images).cpu()


def _finished(network: Frozen, images: Tensor) -> Tensor:
    return network.features(images).cpu()
