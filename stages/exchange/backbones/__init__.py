"""A backbone as a file for another library: every tensor accounted for, both networks run on the same photos."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from stages.data.decode import decode
from stages.data.demo_photos import library_photos
from stages.evaluation.encoders import open_backbone
from stages.exchange.backbones import detectron2, safetensors_file, timm, torchvision
from stages.exchange.backbones.tensor_file import read_tensors, write_tensors
from stages.learning.backbones import Backbone

# Of the largest activation. Both networks compute the same sums in float32, at most in another order.
_TOLERANCE = 1e-4
_SHOWN_NAMES = 6
_PHOTOS = 4


class Target(Protocol):
    """What a module beside this one says about its library.

    Attributes:
        SUFFIXES: of the files that the library reads.
        ENVELOPE: what the library wants beside the tensors, which then lie under "model"; None: tensors alone.
    """

    SUFFIXES: tuple[str, ...]
    ENVELOPE: Mapping[str, Any] | None

    def tensors(self, backbone: Backbone) -> dict[str, Tensor]:
        """The backbone's parameters and buffers by the library's names. What has no name there keeps its own."""

    def network(self, backbone: Backbone) -> nn.Module:
        """The library's own network of that architecture, without classifier, with any weights.

        Raises:
            ValueError: the library has none.
        """

    def outputs(self, backbone: Backbone, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same features of ours and of the library's network. x: (N, 3, H, W) float32, normalised."""

    def usage(self, backbone: Backbone, path: Path) -> str:
        """How to load `path` with the library, a few lines for the user."""


TARGETS: dict[str, Target] = {
    "timm": timm,
    "torchvision": torchvision,
    "detectron2": detectron2,
    "safetensors": safetensors_file,
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        tensors: how many it holds.
        difference: largest absolute difference of the two networks' features on the photos.
        scale: largest absolute feature, to judge the difference by.
        usage: how to load the file.
    """

    path: Path
    tensors: int
    difference: float
    scale: float
    usage: str


def export_backbone(encoder: Mapping[str, Any], to: str, out: Path) -> Exported:
    """Writes the backbone of an encoder to `out` as library `to` wants it, then loads the file there and compares.

    The file only appears at `out` when the library's network took every tensor, none was missing, and both networks
    have the same features of four photographs (untrained ResNets: see `_compare`).

    Args:
        encoder: keyword arguments of `stages.evaluation.encoders.open_backbone`.
        to: a key of TARGETS.

    Raises:
        ValueError: `to` or the suffix is unknown, the library has no such network, tensors are missing or left over, or
            the features differ or are not finite.
    """
    if to not in TARGETS:
        raise ValueError(f"there is no export to '{to}': choose one of {', '.join(TARGETS)}.")
    target = TARGETS[to]
    if out.suffix not in target.SUFFIXES:
        raise ValueError(f"{out}: {to} reads no '{out.suffix}' files. End the name in {' or '.join(target.SUFFIXES)}.")
    backbone = open_backbone(**encoder).eval()
    network = target.network(backbone)
    tensors = target.tensors(backbone)
    refuse_other_tensors(tensors, network, backbone.name, to)

    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f"{out.stem}.partial{out.suffix}")
    try:
        write_tensors(draft, tensors, envelope=target.ENVELOPE, about={"backbone": backbone.name, "library": to})
        network.load_state_dict(read_tensors(draft, enveloped=target.ENVELOPE is not None))
        difference, scale = _compare(target, backbone, network.eval())
        if not math.isfinite(scale):
            raise ValueError(
                f"{backbone.name} has features that are not finite: its training diverged or its file is damaged. "
                "Use an earlier checkpoint or another file."
            )
        if not difference <= _TOLERANCE * scale:
            raise ValueError(
                f"{backbone.name} in {to} has features that differ by {difference:.3g} from ours, which reach "
                f"{scale:.3g}: the architectures are not the same. Export to safetensors, which keeps ours."
            )
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(out, len(tensors), difference, scale, target.usage(backbone, out))


def refuse_other_tensors(tensors: Mapping[str, Tensor], network: nn.Module, name: str, to: str) -> None:
    """Raises ValueError unless `tensors` are just those of `network`, by name and shape."""
    wanted = network.state_dict()
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "left over": sorted(tensors.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}"
            for key, tensor in tensors.items()
            if key in wanted and tensor.shape != wanted[key].shape
        ],
    }
    found = [f"{len(names)} {problem} ({_shown(names)})" for problem, names in problems.items() if names]
    if found:
        raise ValueError(
            f"the tensors of {name} are not those of {to}'s network: {'; '.join(found)}. No file was "
            "written: a network that lacks some has wrong features. Export to safetensors, which takes every backbone."
        )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")


@torch.inference_mode()
def _compare(target: Target, backbone: Backbone, network: nn.Module) -> tuple[float, float]:
    """Largest absolute difference and largest absolute feature, over photographs that come with scikit-image.

    Of a ResNet that was never trained this says little: its residual branches end in a scale of 0. Names and shapes are
    checked all the same.
    """
    side: int = backbone.net.default_cfg["input_size"][-1]
    pixels = np.stack([_squeezed(path, side) for path in library_photos()[:_PHOTOS]])
    x = backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    ours, theirs = target.outputs(backbone, network, x)
    return (ours - theirs).abs().max().item(), ours.abs().max().item()


def _squeezed(path: Path, side: int) -> np.ndarray:
    return np.asarray(decode(path).resize((side, side), Image.Resampling.BILINEAR))
