from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stages.evaluation.pyramid import Pyramid
from stages.evaluation.tasks.dense.up_projection import DepthNetwork, UpProjection, reverse_huber
from stages.learning.backbones import Backbone


def test_an_up_projection_is_unpooling_and_a_convolution_of_5_x_5():
    torch.manual_seed(0)
    block = UpProjection(6, 4).eval()
    x = torch.randn(2, 6, 5, 7)
    unpooled = torch.zeros(2, 6, 10, 14)
    unpooled[..., ::2, ::2] = x

    def convolved(transposed: torch.nn.ConvTranspose2d) -> torch.Tensor:
        return F.conv2d(unpooled, transposed.weight.transpose(0, 1).flip(2, 3), padding=2)

    first, norm, activation, *rest = block.branch
    branch = activation(norm(convolved(first)))
    for layer in rest:
        branch = layer(branch)
    projection, projection_norm = block.projection
    expected = F.relu(branch + projection_norm(convolved(projection)))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "projections"), [("resnet10t", 4), ("vit_tiny_patch16_224", 3), ("conv4", 2)])
def test_the_head_ends_at_a_stride_of_2(name, projections):
    network = DepthNetwork(Pyramid(Backbone(name)))
    assert sum(isinstance(layer, UpProjection) for layer in network.head) == projections
    stride, channels = network.pyramid.strides[-1], network.pyramid.channels[-1]
    head = network.head.to("meta").eval()  # shapes alone
    # A frame of 304 x 228 is filled up to 320 x 256, and the paper's map has 160 x 128 pixels.
    assert head(torch.zeros(1, channels, 256 // stride, 320 // stride, device="meta")).shape == (1, 1, 128, 160)


def test_depth_is_as_large_as_the_photo():
    network = DepthNetwork(Pyramid(Backbone("conv4"))).eval()
    with torch.no_grad():
        assert network.depth(torch.zeros(2, 3, 21, 34, dtype=torch.uint8)).shape == (2, 21, 34)


def test_reverse_huber_as_a_plain_loop():
    error = torch.tensor([-4.0, 0.5, -0.8, 0.0, 2.0])
    c = 4.0 / 5
    expected = [abs(x) if abs(x) <= c else (x * x + c * c) / (2 * c) for x in error.tolist()]
    assert reverse_huber(error).item() == pytest.approx(sum(expected) / 5)
    assert reverse_huber(torch.zeros(3)).item() == 0
    assert reverse_huber(torch.empty(0)).item() == 0


def test_gradient_of_reverse_huber():
    error = torch.tensor([-4.0, 0.5, 2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(reverse_huber(error), error)
    c = 0.8  # a constant: the gradient of the largest error is -4 / c, not that of c itself
    assert gradient.tolist() == pytest.approx([-4 / c / 3, 1 / 3, 2 / c / 3])


def test_pixels_without_depth_have_no_part_in_the_loss():
    torch.manual_seed(0)
    network = DepthNetwork(Pyramid(Backbone("conv4"))).eval()
    pixels = torch.randint(256, (2, 3, 24, 32), dtype=torch.uint8)
    depth = 1 + torch.rand(2, 24, 32)
    depth[0, :, :20] = 0
    with torch.no_grad():
        loss, figures = network({"pixels": pixels, "depth": depth})
        errors = (network.depth(pixels) - depth)[depth > 0]
    assert loss.item() == pytest.approx(reverse_huber(errors).item())
    assert figures["rms"].item() == pytest.approx(errors.square().mean().sqrt().item())
    nothing, _ = network({"pixels": pixels, "depth": torch.zeros_like(depth)})
    assert nothing.item() == 0
