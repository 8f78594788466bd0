"""Where a network runs, and with which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """The device named `device`; "auto" is the GPU where there is one.

    Raises:
        ValueError: a GPU is asked for, and this machine or this build of PyTorch has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"device '{device}' asks for a GPU, and PyTorch {torch.__version__} sees none here. "
            "Use device 'auto' or 'cpu', or check the driver with nvidia-smi."
        )
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> tuple[str, str]:
    """The precision to train with, "fp32", "bf16" or "fp16", and the reason for it in words.

    Raises:
        ValueError: `precision` is none of auto, fp32, bf16, fp16.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is not known. Choose one of {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision, "as asked"
    if device.type == "cuda":
        if _has_bf16(device):
            return "bf16", "GPUs are much faster with it"
        return "fp16", "GPUs are much faster with it, and this one has no units for bf16"
    if _has_amx():
        return "bf16", "this CPU has matrix units for it (AMX)"
    return "fp32", "this CPU has no matrix units for bf16 (AMX), without which it gains nothing"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """bf16 or fp16 where it is safe, weights stay float32; nothing for fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, _HALVES[precision])


def memory_format(precision: str, device: torch.device) -> torch.memory_format:
    """The layout in which convolutions are fastest: channels last, but for fp32 on a CPU.

    There small views (64 pixels) train 1.15 times as fast the other way, and only those of 224 pixels gain from it.
    """
    planar = device.type == "cpu" and precision == "fp32"
    return torch.contiguous_format if planar else torch.channels_last


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss so that gradients in fp16 neither vanish nor overflow; for other precisions it does nothing.

    bf16 has float32's range and needs none. A step whose gradients overflow is skipped and the scale halved, which is
    normal at the start and now and then; after 2,000 good steps the scale doubles.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, the same inputs give the same bits within this block, or an error: resuming is exact there.

    That costs nothing on a CPU. On a GPU it would, so there cuDNN may choose the fastest kernels instead.
    """
    debugging: Any = torch.utils.deterministic  # a module that PyTorch replaces by an object at run time
    former = torch.are_deterministic_algorithms_enabled()
    former_fill = debugging.fill_uninitialized_memory
    former_search = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(device.type == "cpu")
    debugging.fill_uninitialized_memory = False  # would cost time
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(former)
        debugging.fill_uninitialized_memory = former_fill
        torch.backends.cudnn.benchmark = former_search


def _has_amx() -> bool:
    asked = getattr(torch.cpu, "_is_amx_tile_supported", None)  # not public, hence not certain to stay
    return bool(asked is not None and asked())


def _has_bf16(gpu: torch.device) -> bool:
    with torch.cuda.device(gpu):
        return torch.cuda.is_bf16_supported(including_emulation=False)
