"""An encoder that only looks: as fast as the machine allows, and as exact as its float32 original.

What is gained, in ResNet-50 on a CPU with matrix units for bf16 (AMX), against `Encoder.features` in float32 and
contiguous memory: 1.2 times by channels last, 4 by bf16, 4.5 by folding batch norms into convolutions, 12 by
compiling with the weights as constants.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.learning.devices import autocast, resolve_precision
from stages.learning.encoder import Encoder

# Compiling ResNet-50 takes 15 to 25 seconds on two cores, and then saves 2 ms an image of 96 pixels and 9 ms one of
# 224: it is earned back after 2,000 to 12,000 images. More cores compile no faster, but embed faster.
PAYS_FROM = 20_000

log = logging.getLogger(__name__)


class Frozen:
    """`encoder` for inference on `device`: eval mode, no gradients, batch norms folded, channels last.

    Features and projections keep a cosine similarity of at least 0.999 to those in float32.

    Args:
        encoder: stays as it is; a copy is changed.
        precision: see `devices.resolve_precision`; "auto" takes bf16 (fp16) where the device has units for it.
        compile: with torch.compile and constant weights; None does where it pays, by the number of images to come.
            Where it fails, for want of a C++ compiler say, the network runs uncompiled, and the log says so.
        expected: images to come, for `compile=None`.

    Attributes:
        channels: C of the features. dim: D of the projections.

    Raises:
        ValueError: there is no such precision.
    """

    def __init__(
        self,
        encoder: Encoder,
        device: torch.device,
        *,
        precision: str = "auto",
        compile: bool | None = None,
        expected: int = 0,
    ) -> None:
        self.channels: int = encoder.backbone.channels
        self.dim = encoder.dim
        self.device = device
        self.precision, _ = resolve_precision(precision, device)
        # Not in inference mode: its tensors could never be compiled or copied outside of it.
        with torch.inference_mode(False), torch.no_grad():
            network = copy.deepcopy(encoder).eval()
            fold_batch_norms(network.backbone.net)
            network.requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        self._network = network
        self._features: Callable[[Tensor], Tensor] = network.features
        if expected >= PAYS_FROM if compile is None else compile:
            self._features = _Compiled(network.features)

    def features(self, images: Tensor) -> Tensor:
        """Global average of the last feature map. images: (N, 3, H, W) uint8 RGB, on any device. (N, C) float32."""
        return self._run(self._features, images)

    def project(self, images: Tensor) -> Tensor:
        """Projections, not normalised. images: (N, 3, H, W) uint8 RGB, on any device. (N, D) float32."""
        # The projector costs next to nothing, and its batch norms would enlarge what bf16 rounds away.
        with torch.inference_mode():
            return self._network.project(self.features(images))

    def feature_map(self, images: Tensor) -> Tensor:
        """The last feature map. images: (N, 3, H, W) uint8 RGB, on any device. (N, C, h, w) in its own precision."""
        # Not compiled: photos come in many sizes, and each would have to be.
        return self._run(self._network.backbone, images)

    def _run(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(self.precision, self.device):
            return function(images.to(self.device, non_blocking=True))


class _Compiled:
    """`function` compiled for one batch size: smaller batches are filled up, as each size is a compilation."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._eager = function
        self._compiled: Any = torch.compile(function, dynamic=False)
        self._rows = 0

    def __call__(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W) uint8 RGB. The first dimension of what comes out is N."""
        if self._compiled is None:
            return self._eager(images)
        self._rows = max(self._rows, len(images))
        batch = F.pad(images, [0] * 7 + [self._rows - len(images)]).contiguous(memory_format=torch.channels_last)
        from torch._inductor import config  # not by whoever imports this module: it takes a second

        try:
            with config.patch(freezing=True):  # as one of the `options` of torch.compile it has no effect
                return self._compiled(batch)[: len(images)]
        except Exception as error:  # a compiler may raise anything; if it is the images' fault, so does what follows
            rows = self._eager(images)
            log.warning(
                "the network could not be compiled and runs several times slower: %s. A C++ compiler (g++) is needed; "
                "`compile: false` saves the attempt.",
                str(error).strip().partition("\n")[0],
            )
            self._compiled = None
            return rows


def fold_batch_norms(net: nn.Module) -> None:
    """Multiplies each batch norm that directly follows a convolution into its weights, which is exact up to rounding.

    Nothing happens to a network that `torch.fx` cannot trace: it stays right, and slower unless it is compiled.

    Args:
        net: in eval mode; changed in place.
    """
    try:
        graph = _Tracer().trace(net)
    except Exception:  # whatever a network does that cannot be traced
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    modules: dict[Any, nn.Module] = dict(net.named_modules())
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = modules[before.target], modules[node.target]
        if calls[before.target] > 1 or calls[node.target] > 1 or type(conv) is not nn.Conv2d:
            continue
        if type(norm) is nn.BatchNorm2d:
            after: nn.Module = nn.Identity()
        elif type(norm) is BatchNormAct2d:
            after = nn.Sequential(norm.drop, norm.act)
        else:
            continue
        net.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
        net.set_submodule(str(node.target), after)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _BatchNorm) or super().is_leaf_module(m, module_qualified_name)
