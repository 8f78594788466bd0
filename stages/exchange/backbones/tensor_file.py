"""Files of named tensors, as the libraries read them: safetensors, or PyTorch's own without pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, envelope: Mapping[str, Any] | None, about: Mapping[str, str]
) -> None:
    """Writes `path` in the format that its suffix says.

    Args:
        envelope: with these beside them, the tensors lie under "model"; only in PyTorch's format.
        about: words that a safetensors file carries as metadata.

    Raises:
        OSError: the disk is full or failing.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        path.write_bytes(save(plain, metadata=dict(about)))  # not `save_file`, whose errors are not the system's
    else:
        torch.save(plain if envelope is None else {"model": plain, **envelope}, path)


def read_tensors(path: Path, *, enveloped: bool) -> dict[str, Tensor]:
    """What `write_tensors` wrote, on the CPU."""
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content["model"] if enveloped else content
