"""The detectors: what is trained, what is frozen, and that a box comes out where it was learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.data.catalog import Catalog
from stages.evaluation.encoders import open_backbone
from stages.evaluation.tasks.detection.batch_norm import measure_statistics
from stages.evaluation.tasks.detection.detectors import Detector, build_detector
from stages.evaluation.tasks.detection.objects import write_objects
from stages.evaluation.tasks.detection.photos import TrainingPhotos


@pytest.fixture(scope="module")
def data(squares: Catalog, tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotos:
    objects = write_objects(squares, tmp_path_factory.mktemp("objects") / "objects", masks=True)
    return TrainingPhotos(squares, objects, short_sides=[48], longest=64, masks=True, seed=0)


def detector(backbone: str = "resnet10t", **changed: Any) -> Detector:
    settings = {"architecture": "fpn_2fc", "masks": False, "frozen": False, "regions": 4, "proposals": 8}
    torch.manual_seed(0)
    network = open_backbone(kind="random", backbone=backbone, path=None, seed=0)
    return build_detector(network, 2, **settings | {"detections": 3} | changed)


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("resnet10t", {"architecture": "fpn", "masks": True}),
        ("resnet10t", {"architecture": "c4", "masks": True}),
        ("conv4", {"architecture": "fpn_2fc"}),
        ("conv4", {"architecture": "fcos"}),
        ("vit_tiny_patch16_224", {"architecture": "fpn_2fc"}),
    ],
)
def test_every_part_learns_from_each_step(backbone: str, settings: dict[str, Any], data: TrainingPhotos) -> None:
    """As DistributedDataParallel requires. And in eval mode detections come out in order."""
    module = detector(backbone, **settings).train()
    loss, figures = module(data.collate([data[0, 0], data[1, 0]]))
    loss.backward()

    assert loss.item() == pytest.approx(sum(each.item() for each in figures.values()), rel=1e-5)
    assert ("loss_mask" in figures) == settings.get("masks", False)
    assert [name for name, each in module.named_parameters() if each.requires_grad and each.grad is None] == []

    found = module.eval().detect(data[0, 0][0])
    assert len(found["boxes"]) <= 3
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    assert set(found["labels"].tolist()) <= {0, 1}


@pytest.mark.parametrize("architecture", ["fcos", "c4"])
def test_a_frozen_backbone_keeps_weights_and_statistics(architecture: str, data: TrainingPhotos) -> None:
    module = detector(architecture=architecture, frozen=True).train()
    fresh = open_backbone(kind="random", backbone="resnet10t", path=None, seed=0).state_dict()
    optimizer = torch.optim.SGD([each for each in module.parameters() if each.requires_grad], lr=0.01)
    module(data.collate([data[0, 0], data[1, 0]]))[0].backward()
    optimizer.step()

    kept = {name.partition("net.")[2] or name: each for name, each in module.state_dict().items()}
    kept |= {f"layer4.{name.partition('stage.')[2]}": each for name, each in kept.items() if "stage." in name}
    for name, before in fresh.items():
        assert torch.equal(kept[name.removeprefix("net.")], before), name


def test_one_set_of_weights_in_both_heads_of_c4() -> None:
    module: Any = detector(architecture="c4", masks=True)
    heads = module.network.roi_heads
    assert heads.mask_head is heads.box_head[0]
    assert sum(1 for name, _ in module.named_parameters() if name.endswith("stage.0.conv1.weight")) == 1


def test_settings_that_do_not_fit_say_so() -> None:
    with pytest.raises(ValueError, match="FCOS finds boxes alone"):
        detector(architecture="fcos", masks=True)
    with pytest.raises(ValueError, match="'conv4' is none"):
        detector("conv4", architecture="c4")


def test_padding_does_not_reach_the_losses_of_other_photos(data: TrainingPhotos) -> None:
    """A photo is normalised where it is, and 0 elsewhere."""
    module: Any = detector("conv4", architecture="fcos")
    small, large = data[0, 0][0][:, :40, :50], data[1, 0][0]
    images, _ = module.network.transform([small, large], None)

    assert images.tensors.shape == (2, 3, 64, 64)
    assert images.image_sizes == [(40, 50), (48, 64)]
    backbone = module.network.backbone.pyramid.backbone
    assert torch.equal(images.tensors[0, :, :40, :50], backbone.normalise(small[None])[0])
    assert not images.tensors[0, :, 40:].any()
    assert not images.tensors[0, :, :, 50:].any()


def test_precise_statistics_are_the_means_over_the_batches(data: TrainingPhotos) -> None:
    module: Any = detector("conv4", architecture="fcos")
    first = module.network.backbone.pyramid.backbone.net[1]
    momentum = first.momentum
    measure_statistics(module, data, batches=3, batch_size=2, steps=0, seed=0, workers=0)

    assert first.momentum == momentum
    assert int(first.num_batches_tracked) == 3
    measured = first.running_mean.clone()
    measure_statistics(module, data, batches=3, batch_size=2, steps=0, seed=0, workers=0)
    assert torch.allclose(first.running_mean, measured)  # nothing is left of what was there before
