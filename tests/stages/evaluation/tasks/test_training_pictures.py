"""What classifiers are trained on: targets, subsets of them, and augmented pictures."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.catalog import Catalog
from stages.data.unreadable import UnreadablePhoto
from stages.evaluation.photo_labels import POSITIVE, image_labels
from stages.evaluation.tasks import targets as targets_module
from stages.evaluation.tasks.pictures import TrainingPictures, lit
from stages.evaluation.tasks.subsets import labelled_subset
from stages.evaluation.tasks.targets import UNKNOWN, open_targets
from tests.stages.evaluation.conftest import MakeCatalog
from tests.stages.evaluation.tasks.classes import striped_catalog

Pair = tuple[Catalog, Catalog]


def pictures(catalog: Catalog, scratch: Path, seed: int = 0, **changes: object) -> TrainingPictures:
    settings = {"size": 32, "min_crop": 0.2, "augmentation": "plain"} | changes
    targets = open_targets(catalog, scratch)
    return TrainingPictures(catalog, targets, targets.usable(), seed=seed, **settings)


def test_class_folders_give_one_class_a_photo(stripes: Pair, tmp_path: Path):
    targets = open_targets(stripes[0], tmp_path)
    assert targets.single
    assert (targets.classes, len(targets)) == (3, 36)
    assert [int(targets.of(image)) for image in (0, 12, 35)] == [0, 1, 2]
    assert targets.usable().tolist() == list(range(36))
    assert not list(tmp_path.iterdir()), "the classes are in the catalog already"


@pytest.mark.parametrize("at_once", [2, 8192])
def test_boxes_give_all_classes_of_a_photo(
    at_once: int, make_catalog: MakeCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(targets_module, "_PHOTOS_AT_ONCE", at_once)
    box = (0, 0, 9, 9)
    rows = [(0, 1, *box, False, False), (0, 1, *box, True, False), (0, 0, *box, True, False), (2, 0, *box, False, True),
            (4, 0, *box, True, False), (4, 1, *box, False, False)]  # fmt: skip
    catalog = make_catalog("boxes", 5, rows)
    targets = pickle.loads(pickle.dumps(open_targets(catalog, tmp_path / "scratch")))  # noqa: S301 (our own)
    found = np.stack([targets.of(image) for image in range(5)])
    assert found.tolist() == [[UNKNOWN, 1], [0, 0], [1, 0], [0, 0], [UNKNOWN, 1]]
    assert ((found == 1) == (image_labels(catalog) == POSITIVE)).all()
    assert targets.usable().tolist() == [0, 1, 2, 3, 4]


def test_no_labels_is_an_error_that_names_the_layouts(photo_catalog: Catalog, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no labels to train or test on.*CLASS/\*.jpg.*image-net.org.*VOC, COCO"):
        open_targets(photo_catalog, tmp_path)


def test_a_subset_is_balanced_the_same_everywhere_and_another_for_another_draw(stripes: Pair, tmp_path: Path):
    catalog = stripes[0]
    targets = open_targets(catalog, tmp_path)
    chosen = labelled_subset(catalog, targets, 0.39, draw=0)  # 14 of 36
    assert np.bincount(np.asarray(catalog.classes)[chosen]).tolist() in ([4, 5, 5], [5, 4, 5], [5, 5, 4])
    assert (np.diff(chosen) > 0).all()
    assert labelled_subset(catalog, targets, 0.39, draw=0).tolist() == chosen.tolist()
    assert labelled_subset(catalog, targets, 0.39, draw=1).tolist() != chosen.tolist()
    assert set(labelled_subset(catalog, targets, 0.2, draw=0)) <= set(chosen), "a smaller one is part of it"
    assert labelled_subset(catalog, targets, 1, draw=0).tolist() == list(range(36))
    with pytest.raises(ValueError, match=r"fewer than the 3 classes.*at least 8.33%"):
        labelled_subset(catalog, targets, 0.05, draw=0)
    with pytest.raises(ValueError, match="share of 0 of the labels"):
        labelled_subset(catalog, targets, 0, draw=0)


def test_pictures_are_drawn_from_seed_epoch_and_photo(stripes: Pair, tmp_path: Path):
    data = pictures(stripes[0], tmp_path, augmentation="color")
    first = data[5, 2]
    for again in (data[5, 2], pickle.loads(pickle.dumps(data))[5, 2]):  # noqa: S301 (our own)
        assert all(torch.equal(first[name], again[name]) for name in first)
    others = [data[5, 3], data[6, 2], pictures(stripes[0], tmp_path, seed=1, augmentation="color")[5, 2]]
    assert not any(torch.equal(first["pixels"], other["pixels"]) for other in others)
    assert not any(torch.equal(first["light"], other["light"]) for other in others)
    batch = data.collate([first, *others])
    assert batch["pixels"].shape == (4, 3, 32, 32)
    assert batch["pixels"].dtype == torch.uint8
    assert batch["target"].tolist() == [0, 0, 0, 0]


def test_plain_pictures_keep_their_colours_and_color_changes_them(stripes: Pair, tmp_path: Path):
    plain = [pictures(stripes[0], tmp_path)[0, epoch] for epoch in range(8)]
    assert all(sample["light"].eq(0).all() for sample in plain)
    color = [pictures(stripes[0], tmp_path, augmentation="color")[0, epoch] for epoch in range(8)]
    means = [torch.stack([s["pixels"].float().mean(dim=(1, 2)) for s in kind]).std(dim=0).mean()
             for kind in (plain, color)]  # fmt: skip
    assert means[1] > 2 * means[0]


def test_light_is_that_of_alexnet(stripes: Pair, tmp_path: Path):
    """Its covariance over many draws: 0.1^2 times that of ImageNet's pixels, V diag(l^2) V^T."""
    data = pictures(stripes[0], tmp_path, augmentation="color", size=4)
    light = torch.stack([data[index, epoch]["light"] for epoch in range(10) for index in range(36)]).double() / 255
    directions = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], dtype=torch.double
    )
    expected = 0.01 * directions @ torch.diag(torch.tensor([0.2175, 0.0188, 0.0045]).double() ** 2) @ directions.T
    torch.testing.assert_close(light.T @ light / len(light), expected, rtol=0.25, atol=1e-6)
    batch = {"pixels": torch.full((2, 3, 1, 1), 250, dtype=torch.uint8), "light": torch.tensor([[9.5, 0, -1]] * 2)}
    assert lit(batch)[0].flatten().tolist() == [259.5, 250, 249], "not rounded, not cut off"


def test_a_photo_that_is_gone_is_named(tmp_path: Path):
    catalog = striped_catalog(tmp_path, 1, seed=0)
    catalog.path(1).unlink()
    data = pictures(catalog, tmp_path / "scratch")
    assert data[0, 0]["pixels"].shape == (3, 32, 32)
    with pytest.raises(UnreadablePhoto, match=r"along/000\.png could be used when the catalog was made"):
        data[1, 0]


def test_an_unknown_augmentation_is_refused(stripes: Pair, tmp_path: Path):
    with pytest.raises(ValueError, match=r"augmentation 'strong' is not known\. Choose one of plain, color"):
        pictures(stripes[0], tmp_path, augmentation="strong")
