"""Batch norm over all processes, against one process with all rows; and over slices, against one slice at a time."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from process_pair import ProcessPair
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from stages.learning.batch_norm import Split, Synchronized, split, synchronize
from stages.learning.distributed import rank, world_size

ROWS = 8
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def network() -> nn.Module:
    """Batch norms of all kinds: on maps, with an activation inside, without weights, on vectors."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        BatchNormAct2d(6, act_layer=nn.SiLU),
        nn.BatchNorm2d(6, affine=False, momentum=0.3),
        nn.Flatten(),
        nn.Linear(96, 5),
        nn.BatchNorm1d(5),
    )
    for parameter in net.parameters():  # no batch norm is left at scale 1 and offset 0
        nn.init.normal_(parameter, mean=0.5, std=0.3)
    return net.double()


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(ROWS, 3, 8, 8, dtype=torch.float64, generator=generator)
    return rows * torch.arange(1, ROWS + 1).view(-1, 1, 1, 1) + 10  # the halves differ in mean and variance


def outcome(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output, loss (a mean over rows, curved), all gradients, all buffers, and the output in eval mode."""
    x = x.clone().requires_grad_()
    y = net(x)
    loss = (y**3).sum(dim=1).mean()
    loss.backward()
    gradients = {f"gradient {name}": parameter.grad for name, parameter in net.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    return {"y": y.detach(), "loss": loss.detach(), "x": x.grad, **gradients, **buffers, "eval": net.eval()(x).detach()}


def own_half(x: Tensor) -> Tensor:
    return x.chunk(world_size())[rank()]


def synchronized_outcome() -> dict[str, Tensor]:
    net = synchronize(network(), CPU)
    return outcome(net, own_half(inputs())) | {"names": list(net.state_dict())}


def other_checks() -> dict[str, bool]:
    """What can be seen only in a group of processes."""
    norm = synchronize(nn.BatchNorm1d(3), CPU)
    kept = synchronize(nn.Sequential(split(nn.BatchNorm1d(3), 2), nn.LayerNorm(3)), CPU)
    on_gpu = synchronize(network(), GPU)
    half = norm(torch.randn(4, 3, dtype=torch.bfloat16))
    return {
        "a batch norm by itself is replaced": isinstance(norm, Synchronized),
        "split batch norms stay": isinstance(kept[0], Split),
        "other norms stay": isinstance(kept[1], nn.LayerNorm),
        "half precision stays": half.dtype == torch.bfloat16,
        "PyTorch's on a GPU": all(isinstance(on_gpu[i], nn.SyncBatchNorm) for i in (1, 4, 5, 8)),
        "with the activation": isinstance(on_gpu[4].act, nn.SiLU),
    }


def test_two_processes_give_what_one_gives_on_all_rows(two_processes: ProcessPair):
    plain = network()
    expected = outcome(plain, inputs())
    found = two_processes(synchronized_outcome)

    for process, (rows, result) in enumerate(zip(inputs().chunk(2), found, strict=True)):
        own = slice(process * len(rows), (process + 1) * len(rows))
        assert result["names"] == list(plain.state_dict())
        for part in ("y", "eval"):
            torch.testing.assert_close(result[part], expected[part][own], rtol=1e-9, atol=1e-9)
        # The loss of the whole is the mean over the processes, so that each of them has half of its gradient.
        torch.testing.assert_close(result["x"] / 2, expected["x"][own], rtol=1e-8, atol=1e-10)
        for name in dict(plain.named_buffers()):
            torch.testing.assert_close(result[name], expected[name], msg=name)
    for name in ("loss", *(f"gradient {name}" for name, _ in plain.named_parameters())):
        mean = (found[0][name] + found[1][name]) / 2  # what DistributedDataParallel makes of them
        torch.testing.assert_close(mean, expected[name], rtol=1e-8, atol=1e-10, msg=name)


def test_what_is_synchronized_and_how(two_processes: ProcessPair):
    for result in two_processes(other_checks):
        assert result == dict.fromkeys(result, True)


def test_one_process_has_nothing_to_synchronize():
    net = network()
    layers = list(net)
    assert synchronize(net, CPU) is net
    assert list(net) == layers


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_each_slice_is_normalised_by_itself(memory_format: torch.memory_format):
    plain = nn.BatchNorm2d(4, momentum=0.3).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    norm = split(copy.deepcopy(plain), 4)
    x = inputs()[:, [0, 1, 2, 0]].contiguous(memory_format=memory_format)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    y = norm(ours)
    parts = [F.batch_norm(part, None, None, plain.weight, plain.bias, training=True) for part in theirs.chunk(4)]
    (y**3).sum().backward()
    (torch.cat(parts) ** 3).sum().backward()

    torch.testing.assert_close(y, torch.cat(parts))
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad)
    torch.testing.assert_close(norm.bias.grad, plain.bias.grad)
    assert y.is_contiguous(memory_format=memory_format)

    means = torch.stack([part.mean(dim=(0, 2, 3)) for part in x.chunk(4)]).mean(dim=0)
    variances = torch.stack([part.transpose(0, 1).flatten(1).var(dim=1) for part in x.chunk(4)]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, 0.3 * means)
    torch.testing.assert_close(norm.running_var, 0.7 + 0.3 * variances)
    assert norm.num_batches_tracked == 1

    plain.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm.eval()(x), plain.eval()(x))


def test_a_split_network_keeps_its_tensors_and_activations():
    net = network()
    tensors = {name: tensor.data_ptr() for name, tensor in net.state_dict().items()}
    parts = [copy.deepcopy(net)[:6](part) for part in inputs().chunk(2)]  # all maps; statistics of each half
    halved = split(net, 2)
    assert halved is net
    assert {name: tensor.data_ptr() for name, tensor in net.state_dict().items()} == tensors
    torch.testing.assert_close(net[:6](inputs()), torch.cat(parts))


def test_one_group_changes_nothing():
    net = network()
    layers = list(net)
    assert split(net, 1) is net
    assert list(net) == layers


def test_impossible_groups_are_refused():
    with pytest.raises(ValueError, match="in 0 groups: at least 1"):
        split(network(), 0)
    with pytest.raises(ValueError, match=r"in 3 groups got 8 rows: .* multiple of 3"):
        split(network(), 3)(inputs())
    with pytest.raises(ValueError, match=r"in 8 groups got 8 rows: .* at least 2"):
        split(network(), 8)(inputs())
