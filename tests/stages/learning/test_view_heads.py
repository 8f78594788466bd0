"""Heads of objects and scenes, and roles that swap: by the step alone, in half of the steps, without pattern."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.learning.encoder import Encoder, load_encoder, save_encoder
from stages.learning.view_heads import Roles, ViewHeads, by_head, encoder_of, project, roles

VIEW_1, VIEW_2 = torch.ones(4, 3, 2, 2, dtype=torch.uint8), torch.full((4, 3, 2, 2), 2, dtype=torch.uint8)


def at(step: int) -> Tensor:
    return torch.tensor(step)


def swaps(steps: int) -> Tensor:
    """(steps,) bool: whether `view_2` asks."""
    return torch.stack([roles(VIEW_1, VIEW_2, at(step), swap=True).key_is_object for step in range(steps)])


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder("test_resnet", projector_hidden=16, projector_out=8)


def test_without_swapping_view_1_asks():
    assert roles(VIEW_1, VIEW_2, at(0), swap=False) == Roles(VIEW_1, VIEW_2, True, False)


def test_views_go_with_their_kinds():
    for step in range(20):
        role = roles(VIEW_1, VIEW_2, at(step), swap=True)
        assert role.query_is_object != role.key_is_object
        assert torch.equal(role.queries, VIEW_1 if role.query_is_object else VIEW_2)
        assert torch.equal(role.keys, VIEW_1 if role.key_is_object else VIEW_2)
        assert role.queries.dtype == torch.uint8


def test_half_of_the_steps_swap_and_no_step_tells_of_the_next():
    drawn = swaps(4000).double()
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)  # 4 standard deviations
    centred = drawn - drawn.mean()
    for lag in (1, 2, 3, 4, 8, 100):
        correlation = (centred[lag:] * centred[:-lag]).mean() / centred.square().mean()
        assert abs(correlation.item()) < 4 / 4000**0.5, lag


def test_swaps_depend_on_the_step_alone():
    torch.manual_seed(0)
    first = swaps(50)
    torch.manual_seed(1)
    assert torch.equal(swaps(50), first)


@pytest.mark.parametrize("is_object", [True, False])
def test_a_choice_on_the_device_is_the_same_choice(is_object: bool):
    """And the head that was not chosen gets gradients of exactly 0, not none."""
    object_head, scene_head = nn.Linear(4, 3), nn.Linear(4, 3)
    chosen, other = (object_head, scene_head) if is_object else (scene_head, object_head)
    features = torch.randn(5, 4)

    z = by_head(features, torch.tensor(is_object), object_head, scene_head)
    z.square().sum().backward()

    assert torch.equal(z, by_head(features, is_object, object_head, scene_head))
    assert torch.equal(z, chosen(features))
    assert all(parameter.grad.any() for parameter in chosen.parameters())
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in other.parameters())


def test_heads_start_alike_and_learn_apart():
    network = ViewHeads(encoder())
    own, other = network.encoder.projector, network.object_projector
    assert own.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in own.state_dict().items())
    assert not {p.data_ptr() for p in own.parameters()} & {p.data_ptr() for p in other.parameters()}


def test_a_plain_encoder_does_not_ask_for_the_kind():
    plain, images = encoder().eval(), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(project(plain, images, True), plain(images))
    network = ViewHeads(plain).eval()
    assert torch.equal(project(network, images, False), plain(images))
    assert torch.equal(project(network, images, True), network.object_projector(plain.features(images)))
    assert encoder_of(network) is encoder_of(plain) is plain


def test_what_is_saved_has_no_head_of_objects(tmp_path: Path):
    network = ViewHeads(encoder())
    save_encoder(encoder_of(network), tmp_path)
    saved = load_encoder(tmp_path)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(saved.state_dict()[name], tensor), name
    assert saved.state_dict().keys() == encoder(1).state_dict().keys()


def test_neither_the_draw_nor_the_choice_waits_for_the_device():
    """Tensors of the meta device have no values: whoever asks for one fails."""
    role = roles(VIEW_1.to("meta"), VIEW_2.to("meta"), at(3).to("meta"), swap=True)
    z = by_head(torch.randn(5, 4, device="meta"), role.query_is_object, *(nn.Linear(4, 3, device="meta"),) * 2)
    assert (role.queries.shape, z.shape) == (VIEW_1.shape, (5, 3))
