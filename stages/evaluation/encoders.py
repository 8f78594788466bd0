"""Which encoder to evaluate: one of ours, of a file of another program, pretrained by a library, or untrained.

A user writes it as a word, see `EncoderSource.of`. A file is read without running anything that it may hold: as
safetensors, or with PyTorch's `weights_only`.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.evaluation.checkpoint_files import architecture, of_backbone, read_tensors
from stages.learning.backbones import Backbone
from stages.learning.encoder import ENCODER_FILE, load_encoder

KINDS = ("artifact", "file", "random", "timm", "torchvision")
_WORD = re.compile(r"(?:(?P<label>[\w.+-]+)=)?(?P<what>.+)")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder comes from.

    Attributes:
        kind: one of `KINDS`.
        backbone: as `Backbone` names it, for timm and torchvision with the tag of the weights (resnet50.a1_in1k,
            resnet50.IMAGENET1K_V2); None where the file says it.
        path: directory of an artifact, or a file.
        seed: of random weights.
    """

    kind: str
    backbone: str | None = None
    path: Path | None = None
    seed: int = 0

    @classmethod
    def of(cls, word: str, artifacts: Path, seed: int) -> tuple[str, EncoderSource]:
        """Label and source of `word`: `[LABEL=]WHAT`, where WHAT is

        * a directory with `encoder.safetensors`, or CONFIG/STEP (demo/object_pretraining: what the last run of that
          config made), or STEP/VERSION, both in the folder `artifacts`;
        * a file of weights, `FILE@BACKBONE` where its tensors do not tell the architecture;
        * `random:BACKBONE`, `timm:NAME` or `torchvision:NAME`.

        Raises:
            ValueError: there is no such thing; says what a word may be.
        """
        match = _WORD.fullmatch(word)
        label, what = (match["label"], match["what"]) if match else (None, word)
        kind, colon, name = what.partition(":")
        if colon and kind in ("random", "timm", "torchvision"):
            _check_known(kind, name)
            return label or what, cls(kind, name, None, seed if kind == "random" else 0)
        for folder in (Path(what).expanduser(), artifacts / "latest" / what, artifacts / what):
            if (folder / ENCODER_FILE).is_file():
                return label or what.strip("/"), cls("artifact", path=folder.resolve())
        text, _, backbone = what.partition("@")
        file = Path(text).expanduser()
        if file.is_file():
            return label or file.name, cls("file", backbone or None, file.resolve())
        raise ValueError(
            f"encoder '{word}': there is no {ENCODER_FILE} in {what}, and no such file of weights. Give the directory "
            "of a trained encoder, CONFIG/STEP such as demo/object_pretraining, a file (*.safetensors, *.pth), "
            "random:resnet50, timm:NAME or torchvision:NAME."
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `open_backbone`."""
        return {"kind": self.kind, "backbone": self.backbone, "path": self.path, "seed": self.seed}

    @property
    def file(self) -> Path | None:
        """The file whose content is the weights; None where a library has them."""
        return self.path / ENCODER_FILE if self.kind == "artifact" and self.path is not None else self.path


def open_backbone(*, kind: str, backbone: str | None, path: Path | None, seed: int = 0) -> Backbone:
    """The backbone of an encoder with its weights, in eval mode, on the CPU, in the memory layout that suits it.

    Raises:
        ValueError: the weights do not fit the architecture, or can't be had; see the message.
    """
    if kind == "artifact":
        assert path is not None, "an artifact has a directory"
        return load_encoder(path).backbone
    if kind == "file":
        assert path is not None, "a file has a path"
        network = _of_file(path, backbone)
    else:
        assert backbone is not None, "a library's network has a name"
        network = _of_library(kind, backbone, seed)
    return network.eval().to(memory_format=network.layout())


def _of_library(kind: str, name: str, seed: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Backbone(name if kind == "random" else name.partition(".")[0])
    if kind == "timm":
        pretrained = _downloaded(f"timm:{name}", lambda: timm.create_model(name, pretrained=True, num_classes=0))
        network.mean.copy_(255 * torch.tensor(pretrained.pretrained_cfg["mean"]).view(3, 1, 1))
        network.std.copy_(255 * torch.tensor(pretrained.pretrained_cfg["std"]).view(3, 1, 1))
        _load(network, pretrained.state_dict(), f"timm:{name}")
    elif kind == "torchvision":
        architecture_name, _, tag = name.partition(".")
        weights = torchvision.models.get_model_weights(architecture_name)[tag or "DEFAULT"]
        tensors = _downloaded(
            f"torchvision:{name}",
            lambda: weights.get_state_dict(progress=False, check_hash=True, weights_only=True),
        )
        _load(network, tensors, f"torchvision:{name}")
    return network


def _of_file(path: Path, backbone: str | None) -> Backbone:
    tensors, said = _read(path)
    name = backbone or said or architecture(tensors)
    if name is None:
        raise ValueError(
            f"{path}: its tensors are of no ResNet or vision transformer of timm, so the architecture is not known. "
            f"Say it: {path.name}@BACKBONE, with a name from `timm.list_models()`."
        )
    network = Backbone(name)
    _load(network, tensors, str(path))
    return network


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file, and the backbone that it names, as files of `orl export` do."""
    if path.suffix != ".safetensors":
        return read_tensors(path), None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (`file` is no dict)
            return tensors, (file.metadata() or {}).get("backbone")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}. Copy it again.") from error


def _load(network: Backbone, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads the backbone's tensors, wherever in `tensors` they are.

    Raises:
        ValueError: some are missing, or of other shapes.
    """
    wanted = network.net.state_dict()
    fitting, prefix, left = of_backbone(tensors, wanted)
    missing = [name for name in wanted if name not in fitting and not name.endswith("num_batches_tracked")]
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        held = ", ".join(list(tensors)[:4])
        raise ValueError(
            f"{source} is no {network.name}: {len(missing)} of its {len(wanted)} tensors are missing or have another "
            f"shape: {shown}. The file begins with {held}. Give the right backbone: FILE@BACKBONE."
        )
    network.net.load_state_dict(fitting, strict=False)  # complete, as was just seen
    if left:
        log.info("%s: the backbone is below '%s'; left out: %s", source, prefix, ", ".join(left))


def _downloaded(name: str, get: Callable[[], Any]) -> Any:
    try:
        return get()
    except (OSError, RuntimeError) as error:  # what urllib, requests and the hub raise without a network
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"the weights of {name} can't be had: {reason}. They are downloaded once; where there is no network, "
            "give a file of weights instead."
        ) from error


def _check_known(kind: str, name: str) -> None:
    if kind == "torchvision":
        base, _, tag = name.partition(".")
        known = [each for each in torchvision.models.list_models(torchvision.models) if each in timm.list_models()]
        if base not in known or not base.startswith(("resnet", "wide_resnet", "resnext")):
            choices = [each for each in known if "res" in each and "q" not in each]
            raise ValueError(f"encoder 'torchvision:{name}': known are {', '.join(choices)}.")
        tags = [weights.name for weights in torchvision.models.get_model_weights(base)]
        if tag and tag not in tags:
            raise ValueError(f"encoder 'torchvision:{name}': the weights are {', '.join(tags)}.")
    elif kind == "timm" and name.partition(".")[0] not in timm.list_models():
        close = difflib.get_close_matches(name, timm.list_models(pretrained=True), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"encoder 'timm:{name}': timm has no such model.{hint}")
