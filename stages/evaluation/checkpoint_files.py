"""Weights in files of other programs: reading them safely, and finding the backbone among what else they hold."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Where trainings keep the tensors in what they save, the most wanted first. DINO evaluates its teacher.
_PLACES = ("state_dict", "model_state_dict", "model", "teacher", "student", "network", "backbone", "encoder")
# Of the two networks of a method the one that learned by gradient.
_SECOND_NETWORK = re.compile(r"(^|[._])(encoder_k|momentum|target|ema|key|teacher)([._]|$)")
_RESNETS = {
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
    (True, (3, 24, 36, 3)): "resnet200",
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
}
_VITS = {192: "tiny", 384: "small", 768: "base", 1024: "large"}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, by name. Nothing in it is run.

    Raises:
        ValueError: it can't be read that way, or holds no tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} can't be read as tensors alone ({type(error).__name__}): it is damaged, or holds Python objects, "
            "which might run code when they are loaded. Where you trust it, load it once yourself and save its state "
            "dict alone: torch.save(content['state_dict'], 'weights.pth')."
        ) from error
    found = _tensors(content)
    if not found:
        raise ValueError(f"{path} holds no tensors, or none in a place that is known: {', '.join(_PLACES)}.")
    return found


def of_backbone(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str, list[str]]:
    """Those of `tensors` that are the `wanted` ones: same name after some prefix, same shape.

    Of several prefixes the one with most wanted tensors is taken; among equals not that of a second, averaged network
    (MoCo's encoder_k, BYOL's target), then the shortest.

    Returns:
        The tensors by their wanted names, the prefix, and the first parts of the names that were left out.
    """
    names = list(wanted)
    prefixes = {name.removesuffix(names[0]) for name in tensors if name == names[0] or name.endswith("." + names[0])}

    def fitting(prefix: str) -> dict[str, Tensor]:
        return {
            name: tensors[prefix + name]
            for name in names
            if prefix + name in tensors and tensors[prefix + name].shape == wanted[name].shape
        }

    ranked = sorted(prefixes, key=lambda p: (-len(fitting(p)), _SECOND_NETWORK.search(p) is not None, len(p), p))
    prefix = ranked[0] if ranked else ""
    chosen = fitting(prefix)
    left = {_first_parts(name, prefix) for name in tensors if name.removeprefix(prefix) not in chosen}
    return chosen, prefix, sorted(left)


def architecture(tensors: Mapping[str, Tensor]) -> str | None:
    """The name under which `Backbone` knows the network, read off names and shapes; None where they tell nothing."""
    for name, tensor in tensors.items():
        if name.endswith("layer1.0.conv1.weight"):
            return _resnet(tensors, name.removesuffix("layer1.0.conv1.weight"))
        if name.endswith("patch_embed.proj.weight") and tensor.ndim == 4 and tensor.shape[0] in _VITS:
            return f"vit_{_VITS[tensor.shape[0]]}_patch{tensor.shape[-1]}_224"
    return None


def _resnet(tensors: Mapping[str, Tensor], prefix: str) -> str | None:
    blocks = [
        len({name.split(".")[0] for name in _below(tensors, f"{prefix}layer{stage}.") if name.split(".")[0].isdigit()})
        for stage in range(1, 5)
    ]
    bottleneck = f"{prefix}layer1.0.conv3.weight" in tensors
    stem, narrow = tensors.get(f"{prefix}conv1.weight"), tensors[f"{prefix}layer1.0.conv1.weight"]
    name = _RESNETS.get((bottleneck, (blocks[0], blocks[1], blocks[2], blocks[3])))
    if name is None or stem is None or stem.shape[0] % 64 or stem.shape[0] != narrow.shape[0]:
        return None
    return name if stem.shape[0] == 64 else f"{name}w{stem.shape[0] // 64}"


def _below(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]


def _first_parts(name: str, prefix: str) -> str:
    rest = name.removeprefix(prefix)
    return rest.split(".")[0] if rest != name or not prefix else ".".join(name.split(".")[:2])


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, wherever in `content` it is."""
    if not isinstance(content, Mapping):
        return {}
    direct = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if direct:
        return direct
    for place in _PLACES:
        if found := _tensors(content.get(place)):
            return found
    return {}
