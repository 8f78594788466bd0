"""What a detector is shown: the right boxes and masks, at the right size, drawn the same again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.catalog import Catalog
from stages.evaluation.tasks.detection.objects import LabelledObjects, write_objects
from stages.evaluation.tasks.detection.photos import (
    TestPhotos,
    TrainingPhotos,
    outlined,
    resized,
    scaled_size,
)


@pytest.fixture(scope="module")
def objects(squares: Catalog, tmp_path_factory: pytest.TempPathFactory) -> LabelledObjects:
    return write_objects(squares, tmp_path_factory.mktemp("objects") / "objects", masks=True)


def training(squares: Catalog, objects: LabelledObjects, **changed: object) -> TrainingPhotos:
    settings: dict = {"short_sides": [96], "longest": 200, "masks": True, "seed": 0}
    return TrainingPhotos(squares, objects, **settings | changed)


def test_objects_of_a_photo_are_those_of_the_catalog(squares: Catalog, objects: LabelledObjects) -> None:
    labels = squares.labels
    for image in range(7):
        own = labels[labels["image"] == image]
        boxes, categories = objects.of(image)
        assert boxes == pytest.approx(own[["x0", "y0", "x1", "y1"]].to_numpy())
        assert categories.tolist() == own["category"].tolist()
        assert objects.outlines_of(image) == own["segmentation"].tolist()


def test_a_photo_of_a_crowd_is_not_learned_from(squares: Catalog, objects: LabelledObjects) -> None:
    assert objects.photos.tolist() == list(range(7))
    assert len(training(squares, objects)) == 7


def test_objects_are_written_once(squares: Catalog, objects: LabelledObjects) -> None:
    before = (objects.directory / "boxes.npy").stat().st_mtime_ns
    again = write_objects(squares, objects.directory, masks=True)
    assert (again.directory / "boxes.npy").stat().st_mtime_ns == before


def test_boxes_and_masks_follow_size_and_flip(squares: Catalog, objects: LabelledObjects) -> None:
    data = training(squares, objects)
    turned = 0
    for epoch in range(8):
        pixels, target = data[2, epoch]
        assert pixels.shape == (3, 96, 128)
        original, _ = objects.of(2)
        turned += int(not np.allclose(target["boxes"].numpy(), 2 * original))
        for (x0, y0, x1, y1), label, mask in zip(
            target["boxes"].tolist(), target["labels"].tolist(), target["masks"], strict=True
        ):
            middle = pixels[:, int(y0) + 4 : int(y1) - 4, int(x0) + 4 : int(x1) - 4].float().mean(dim=(1, 2))
            assert middle.argmax() == (0 if label == 0 else 2)  # red or blue
            rows, columns = np.nonzero(mask.numpy())
            found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert found == pytest.approx((x0, y0, x1, y1), abs=1)
    assert 0 < turned < 8


def test_a_sample_depends_on_seed_epoch_and_photo_alone(squares: Catalog, objects: LabelledObjects) -> None:
    data = training(squares, objects, short_sides=[48, 64, 96])
    again = pickle.loads(pickle.dumps(data))  # noqa: S301
    shapes = {data[0, epoch][0].shape for epoch in range(8)}
    assert len(shapes) == 3
    for epoch in range(4):
        pixels, target = data[0, epoch]
        same, same_target = again[0, epoch]
        assert torch.equal(pixels, same)
        assert all(torch.equal(target[name], same_target[name]) for name in target)


def test_sizes_are_those_of_detectron2() -> None:
    assert scaled_size(640, 480, 800, 1333) == (1067, 800)
    assert scaled_size(480, 640, 800, 1333) == (800, 1067)
    assert scaled_size(2000, 500, 800, 1333) == (1333, 333)


def test_photos_of_the_right_size_stay_as_they_are(squares: Catalog) -> None:
    image, pixels = TestPhotos(squares, short_side=48, longest=64)[3]
    assert image == 3
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), squares.pixels(3))
    assert resized(squares.pixels(3), (32, 24)).shape == (24, 32, 3)


def test_polygons_and_run_lengths_draw_the_same_mask() -> None:
    polygon = [[8, 4, 40, 4, 40, 36, 8, 36]]
    counts = [8 * 48 + 4, *([32, 16] * 31), 32, 48 * 64 - (8 * 48 + 4 + 48 * 31 + 32)]
    coded = {"size": [48, 64], "counts": counts}
    for size in ((64, 48), (128, 96), (32, 24)):
        assert np.array_equal(outlined(polygon, (64, 48), size), outlined(coded, (64, 48), size))
        assert outlined(polygon, (64, 48), size).sum() == 32 * 32 * (size[0] / 64) ** 2


def test_masks_need_outlines(squares: Catalog, tmp_path: Path) -> None:
    directory = tmp_path / "boxes_alone"
    directory.mkdir()
    for file in squares.directory.iterdir():
        if file.is_file():
            (directory / file.name).write_bytes(file.read_bytes())
    squares.labels.assign(segmentation=None).to_parquet(directory / "labels.parquet")
    with pytest.raises(ValueError, match="have a box alone"):
        write_objects(Catalog(directory, squares.root), tmp_path / "objects", masks=True)
    assert json.loads((squares.directory / "categories.json").read_text()) == ["red", "blue"]
