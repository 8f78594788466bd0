"""SimCLR, MoCo v2 and DenseCL written a second time, from the papers and in the plainest PyTorch, to test ours against.

A batch norm of several groups is written as what it stands for: devices with a network each, one after the other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.learning.encoder import Encoder
from stages.learning.view_heads import ViewHeads
from stages.methods.densecl import GlobalAndDense

BATCH_NORM_EPS = 1e-5


def tiny_encoder(seed: int, norm: str) -> Encoder:
    """Of a network without kinks: where rounding errors do not tip a ReLU or a maximum, gradients agree closely."""
    torch.manual_seed(seed)
    return Encoder("test_efficientnet", projector_hidden=16, projector_out=8, projector_norm=norm)


def photos(seed: int, n: int = 6, side: int = 64) -> dict[str, Tensor]:
    """Two views of n photos, each 4 x 4 patches of one colour."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, 256, (2, n, 3, 4, 4), dtype=torch.uint8, generator=generator)
    view_1, view_2 = patches.repeat_interleave(side // 4, dim=3).repeat_interleave(side // 4, dim=4)
    return {"view_1": view_1, "view_2": view_2}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a * a).sum().sqrt() / (b * b).sum().sqrt()


def unit(x: Tensor) -> Tensor:
    return x / (x * x).sum(dim=-1, keepdim=True).sqrt()


def descend(module: nn.Module, lr: float) -> None:
    """A step of gradient descent of all parameters that learn; their gradients are gone thereafter."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.data = parameter.data - lr * parameter.grad
            parameter.grad = None


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Of all parameters that learn; zeros for one that had no part in the loss and thus has no gradient."""
    learning = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in learning.items()}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float = 1e-3) -> None:
    """Each tensor differs by a vector that is short beside it, or next to nothing beside all of them together."""
    assert ours.keys() == theirs.keys()
    total = torch.stack([tensor.norm() for tensor in theirs.values()]).norm()
    for name, tensor in theirs.items():
        error = (ours[name] - tensor).norm()
        assert error <= tolerance * tensor.norm() + 1e-5 * total, f"{name} differs by {error} of {tensor.norm()}"


# SimCLR


def simclr_project(encoder: Encoder, images: Tensor) -> Tensor:
    """Linear, batch norm, ReLU, linear, batch norm without offset; no linear layer has a bias (model_util.py)."""
    head = dict(encoder.projector.named_parameters())
    y = encoder.backbone(images).flatten(2).mean(dim=2)
    hidden = head["1.weight"] * standardized(y @ head["0.weight"].T) + head["1.bias"]
    hidden = torch.where(hidden > 0, hidden, torch.zeros(()))
    return head["4.weight"] * standardized(hidden @ head["3.weight"].T)


def standardized(x: Tensor) -> Tensor:
    mean = x.sum(dim=0) / len(x)
    variance = ((x - mean) ** 2).sum(dim=0) / len(x)
    return (x - mean) / torch.sqrt(variance + BATCH_NORM_EPS)


def simclr_loss(encoder: Encoder, view_1: Tensor, view_2: Tensor, temperature: float) -> Tensor:
    """Algorithm 1 with the 2N projections in the order of the paper: 2k - 1 and 2k belong together."""
    n = len(view_1)
    z = simclr_project(encoder, torch.cat([view_1, view_2]))
    z = torch.stack([z[k + view * n] for k in range(n) for view in (0, 1)])

    def loss(i: int, j: int) -> Tensor:
        others = sum(torch.exp(cosine(z[i], z[k]) / temperature) for k in range(2 * n) if k != i)
        return -torch.log(torch.exp(cosine(z[i], z[j]) / temperature) / others)

    return sum(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in range(n)) / n


# MoCo and DenseCL


def contrast(q: Tensor, k: Tensor, negatives: list[Tensor], temperature: float) -> Tensor:
    positive = torch.exp(cosine(q, k) / temperature)
    return -torch.log(positive / (positive + sum(torch.exp(cosine(q, old) / temperature) for old in negatives)))


class MoCoByHand:
    """As in the official code: the key network is updated before it is used; its keys enter the queue thereafter.

    Set `swapped` where `view_2` asks and `view_1` answers. A network with a head for objects uses it for `view_1`.
    """

    swapped = False

    def __init__(self, network: nn.Module, queue: Tensor, temperature: float, momentum: float, devices: int) -> None:
        self.query, self.key = copy.deepcopy(network), copy.deepcopy(network)
        self.queue = list(queue.clone())  # oldest first
        self.temperature, self.momentum, self.devices = temperature, momentum, devices

    def loss(self, view_1: Tensor, view_2: Tensor, order: Tensor) -> Tensor:
        """order: which photo's key is encoded at which place."""
        if self.swapped:
            view_1, view_2 = view_2, view_1
        q = torch.cat([self.project(self.query, part) for part in view_1.chunk(self.devices)])
        with torch.no_grad():
            self.update_key()
            shuffled = torch.cat([self.project(self.key, part) for part in view_2[order].chunk(self.devices)])
            k = torch.empty_like(shuffled)
            for place, photo in enumerate(order.tolist()):
                k[photo] = shuffled[place]
        loss = sum(contrast(q[i], k[i], self.queue, self.temperature) for i in range(len(q))) / len(q)
        self.queue = [*self.queue, *unit(k)][-len(self.queue) :]
        return loss

    def update_key(self) -> None:
        for xi, theta in zip(self.key.parameters(), self.query.parameters(), strict=True):
            xi.data = self.momentum * xi.data + (1 - self.momentum) * theta.data

    def project(self, network: nn.Module, images: Tensor) -> Tensor:
        encoder = network.encoder if isinstance(network, ViewHeads) else network
        return fully_connected(self.head(network, encoder), encoder.backbone(images).flatten(2).mean(dim=2))

    def head(self, network: nn.Module, encoder: Encoder) -> nn.Module:
        """Of what the network is shown now."""
        shows_objects = self.swapped if network is self.key else not self.swapped
        own = getattr(network, "object_projector", None)
        return own if own is not None and shows_objects else encoder.projector


class DenseCLByHand(MoCoByHand):
    """MoCo's photo and each place of the map: a second head, a second queue."""

    def __init__(
        self,
        network: GlobalAndDense,
        queue: Tensor,
        dense_queue: Tensor,
        temperature: float,
        momentum: float,
        devices: int,
    ) -> None:
        super().__init__(network, queue, temperature, momentum, devices)
        self.dense_queue = list(dense_queue.clone())

    def losses(self, view_1: Tensor, view_2: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """The global and the dense loss."""
        if self.swapped:
            view_1, view_2 = view_2, view_1
        q, q_dense, features_q = self.on_devices(self.query, view_1)
        with torch.no_grad():
            self.update_key()
            shuffled = self.on_devices(self.key, view_2[order])
            k, k_dense, features_k = (
                torch.stack([x[order.tolist().index(i)] for i in range(len(x))]) for x in shuffled
            )
        global_, dense = [], []
        for i in range(len(q)):
            global_.append(contrast(q[i], k[i], self.queue, self.temperature))
            for place in range(q_dense.shape[1]):
                cosines = torch.stack([cosine(features_q[i, place], other) for other in features_k[i]])
                positive = k_dense[i, int(cosines.argmax())]
                dense.append(contrast(q_dense[i, place], positive, self.dense_queue, self.temperature))
        self.queue = [*self.queue, *unit(k)][-len(self.queue) :]
        self.dense_queue = [*self.dense_queue, *unit(k_dense.mean(dim=1))][-len(self.dense_queue) :]
        return sum(global_) / len(global_), sum(dense) / len(dense)

    def on_devices(self, network: GlobalAndDense, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Global projections (N, D), dense ones (N, L, D) and features (N, L, C)."""
        maps = torch.cat([network.encoder.backbone(part) for part in images.chunk(self.devices)])
        places = torch.stack([maps[:, :, y, x] for y in range(maps.shape[2]) for x in range(maps.shape[3])], dim=1)
        projected = fully_connected(self.head(network, network.encoder), places.mean(dim=1))
        return projected, fully_connected(network.dense_head, places), places


def fully_connected(layers: nn.Module, x: Tensor) -> Tensor:
    """Two layers on the last axis; a 1 x 1 convolution is the same on the channels of each place."""
    head = dict(layers.named_parameters())
    hidden = x @ head["0.weight"].flatten(1).T + head["0.bias"]
    return torch.where(hidden > 0, hidden, torch.zeros(())) @ head["2.weight"].flatten(1).T + head["2.bias"]
