"""DetCon_S and DetCon_B against transcriptions by hand in float64, against SimCLR, and two processes against one."""

from __future__ import annotations

import copy
import math

import byol_by_hand
import contrastive_by_hand
import pytest
import torch
from contrastive_by_hand import assert_same, descend, gradients, standardized, weights
from process_pair import ProcessPair
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.learning.batch_norm import synchronize
from stages.learning.distributed import rank, world_size
from stages.learning.encoder import Encoder
from stages.methods.detcon import DetConB, DetConS
from stages.methods.simclr import SimCLR
from tests.stages.learning.losses.detcon_by_hand import by_hand

SETTINGS = {"temperature": 0.1, "reading": "code", "negatives": "all", "views": "two"}


def detcon_s(**changed: str) -> DetConS:
    return DetConS(contrastive_by_hand.tiny_encoder(0, "all"), **SETTINGS | changed).double().train()


def detcon_b(**changed: str) -> DetConB:
    method = DetConB(byol_by_hand.tiny_encoder(0), predictor_hidden=16, tau=0.9, **SETTINGS | changed)
    method.target.load_state_dict(byol_by_hand.tiny_encoder(1).state_dict())  # so that mixing the networks up shows
    for name, parameter in method.named_parameters():
        if parameter.ndim == 1:  # so that residual branches do not start closed
            nn.init.normal_(parameter, mean="weight" in name, std=0.3)
    return method.double().train()


def drawn(seed: int, n: int = 5, regions: int = 4) -> dict[str, Tensor]:
    """Two views of n photos and soft masks of regions in their 2 x 2 cells; here and there one that shows nothing."""
    batch = contrastive_by_hand.photos(seed, n)
    rng = torch.Generator().manual_seed(seed)
    for view in ("view_1", "view_2"):
        ids = torch.randint(-1, 3, (n, regions), generator=rng, dtype=torch.int32)
        masks = torch.rand(n, regions, 2, 2, generator=rng) * (ids >= 0)[:, :, None, None]
        batch |= {f"{view}_ids": ids, f"{view}_masks": masks}
    return batch


# By hand


def pooled(feature_map: Tensor, masks: Tensor) -> Tensor:
    """Section 3.1, cell by cell: (N R, C)."""
    rows = []
    for cells, photo_masks in zip(feature_map, masks.double(), strict=True):
        for mask in photo_masks:
            total = sum(mask[i, j] * cells[:, i, j] for i in range(mask.shape[0]) for j in range(mask.shape[1]))
            rows.append(total / mask.sum() if mask.any() else 0 * total)
    return torch.stack(rows)


def simclr_head(layers: nn.Module, x: Tensor) -> Tensor:
    """Linear, batch norm, ReLU, linear, batch norm without offset (google-research/simclr, model_util.py)."""
    head = dict(layers.named_parameters())
    hidden = torch.relu(head["1.weight"] * standardized(x @ head["0.weight"].T) + head["1.bias"])
    return head["4.weight"] * standardized(hidden @ head["3.weight"].T)


def loss_of_s(encoder: Encoder, batch: dict[str, Tensor]) -> Tensor:
    maps = encoder.backbone(torch.cat([batch["view_1"], batch["view_2"]]))
    h = pooled(maps, torch.cat([batch["view_1_masks"], batch["view_2_masks"]]))
    z_1, z_2 = simclr_head(encoder.projector, h).unflatten(0, (2, *batch["view_1_ids"].shape))
    return by_hand((z_1, z_2, z_1, z_2), (batch["view_1_ids"], batch["view_2_ids"]), 0.1, "code")


def latents_of_b(online: Encoder, target: Encoder, predictor: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
    preds, targets = [], []
    for view in ("view_1", "view_2"):
        shape, masks = batch[f"{view}_ids"].shape, batch[f"{view}_masks"]
        z = byol_by_hand.head(online.projector, pooled(online.backbone(batch[view]), masks))
        preds.append(byol_by_hand.head(predictor, z).unflatten(0, shape))
        z = byol_by_hand.head(target.projector, pooled(target.backbone(batch[view]), masks))
        targets.append(z.detach().unflatten(0, shape))
    return preds + targets


# Steps


def test_steps_of_detcon_s_are_those_of_the_transcription():
    method = detcon_s()
    encoder = copy.deepcopy(method.encoder)
    for step in range(2):
        batch = drawn(step)
        expected = loss_of_s(encoder, batch)
        expected.backward()

        loss = method(batch).loss
        loss.backward()

        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
        assert_same(gradients(method.encoder), gradients(encoder), 1e-7)
        descend(method, 0.01)
        descend(encoder, 0.01)
        assert method.after_step(step / 2) == {}


def test_a_step_of_detcon_b_is_that_of_the_transcription():
    method, batch, lr, progress = detcon_b(), drawn(0), 0.1, 0.25
    online, target, predictor = (copy.deepcopy(net) for net in (method.online, method.target, method.predictor))
    ids = batch["view_1_ids"], batch["view_2_ids"]
    expected = by_hand(tuple(latents_of_b(online, target, predictor, batch)), ids, 0.1, "code")
    expected.backward()
    byol_by_hand.sgd_step(online, lr)
    byol_by_hand.sgd_step(predictor, lr)
    tau = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2
    byol_by_hand.ema_step(target, online, tau)

    loss = method(batch).loss
    loss.backward()
    torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr).step()

    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    assert method.after_step(progress) == {"tau": pytest.approx(tau)}
    for ours, theirs in ((method.online, online), (method.predictor, predictor), (method.target, target)):
        assert_same(weights(ours), weights(theirs), 1e-9)


@pytest.mark.parametrize("reading", ["code", "paper"])
def test_of_one_view_each_half_of_its_draws_finds_the_other(reading: str):
    method, batch = detcon_b(views="one", reading=reading), drawn(3)
    latents = latents_of_b(method.online, method.target, method.predictor, batch)
    losses = []
    for number, view in enumerate(("view_1", "view_2")):
        (pred_1, pred_2), (target_1, target_2), ids = (
            x.split(2, dim=1) for x in (latents[number], latents[number + 2], batch[f"{view}_ids"])
        )
        losses.append(by_hand((pred_1, pred_2, target_1, target_2), ids, 0.1, reading))

    output = method(batch)

    torch.testing.assert_close(output.loss, (losses[0] + losses[1]) / 2, rtol=1e-9, atol=0)


def test_one_global_mask_is_simclr():
    method, batch = detcon_s(), drawn(0, regions=1)
    simclr = SimCLR(copy.deepcopy(method.encoder), temperature=0.1)
    for view in ("view_1", "view_2"):
        batch[f"{view}_masks"], batch[f"{view}_ids"] = torch.ones(5, 1, 2, 2), torch.zeros(5, 1, dtype=torch.int32)

    ours, theirs = method(batch), simclr(batch)
    ours.loss.backward()
    theirs.loss.backward()

    torch.testing.assert_close(ours.loss.float(), theirs.loss, rtol=1e-5, atol=0)
    assert_same(gradients(method), gradients(simclr), 1e-4)
    for z, other in zip(ours.embeddings["image"], theirs.embeddings["image"], strict=True):
        torch.testing.assert_close(z, other)


# What learns, and what is kept


def test_where_no_region_matches_nothing_learns():
    for method in (detcon_s(), detcon_b()):
        batch = drawn(0)
        batch["view_2_ids"] = batch["view_1_ids"].amax() + 1 + batch["view_2_ids"].clamp(min=0)
        output = method(batch)
        output.loss.backward()
        assert output.loss.item() == output.figures["matched"] == 0
        assert not any(gradient.any() for gradient in gradients(method).values())


def test_detcon_s_learns_from_both_sides_and_detcon_b_from_the_online_one():
    method = detcon_b()
    method(drawn(0)).loss.backward()
    assert all(parameter.grad is None for parameter in method.target.parameters())
    assert all(gradient.any() for gradient in gradients(method.online).values())
    assert method.encoder is method.online
    assert {name.split(".")[0] for name in method.state_dict()} == {"online", "predictor", "target"}
    assert {name.split(".")[0] for name in detcon_s().state_dict()} == {"encoder"}


def test_batch_norm_sees_both_views_together_in_s_and_each_by_itself_in_b():
    batch, other = drawn(0), drawn(0)
    other |= {name: value for name, value in drawn(9).items() if name in ("view_2", "view_2_masks")}
    for method, separate in ((detcon_s(), False), (detcon_b(), True)):
        z, changed = (method(x).embeddings["image"][0] for x in (batch, other))
        assert torch.equal(z, changed) == separate


def test_regions_that_fall_into_no_halves_and_unknown_views_are_refused():
    with pytest.raises(ValueError, match="3 don't have"):
        detcon_s(views="one")(drawn(0, regions=3))
    with pytest.raises(ValueError, match="Choose two or one"):
        detcon_s(views="three")(drawn(0))


def test_masks_in_other_cells_than_the_map_s_are_refused():
    batch = drawn(0)
    batch["view_1_masks"] = batch["view_2_masks"] = torch.ones(5, 4, 7, 7)
    with pytest.raises(ValueError, match="in 7 x 7 cells for feature maps of 10 views in 2 x 2"):
        detcon_s()(batch)


# Several processes


def share_of_a_step(kind: str) -> dict[str, Tensor]:
    """Loss, gradients and buffers of this process with its share of the photos."""
    method = synchronize(detcon_s() if kind == "s" else detcon_b(), torch.device("cpu"))
    network = DistributedDataParallel(method, broadcast_buffers=False) if world_size() > 1 else method
    batch = drawn(2, n=8)
    loss = network({name: rows.chunk(world_size())[rank()] for name, rows in batch.items()}).loss
    loss.backward()
    return {"loss": loss.detach(), **gradients(method), **dict(method.named_buffers())}


@pytest.mark.parametrize("kind", ["s", "b"])
def test_two_processes_give_the_loss_and_gradients_of_one(kind: str, two_processes: ProcessPair):
    expected = share_of_a_step(kind)
    first, second = two_processes(share_of_a_step, kind)
    torch.testing.assert_close((first.pop("loss") + second["loss"]) / 2, expected.pop("loss"), rtol=1e-6, atol=0)
    assert set(first) == set(expected)
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_takes_transformers():
    encoder = Encoder("test_vit", projector_hidden=16, projector_out=8, projector_norm="all")
    batch = {name: rows for name, rows in drawn(0).items() if "masks" not in name}
    batch |= {f"view_{n}": contrastive_by_hand.photos(n, 5, side=160)["view_1"] for n in (1, 2)}
    batch |= {f"view_{n}_masks": torch.rand(5, 4, 10, 10) for n in (1, 2)}
    DetConS(encoder, **SETTINGS).train()(batch).loss.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters() if parameter.requires_grad)
