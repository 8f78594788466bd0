"""The labelled scenes: the same bytes every time, exact labels, and no class that colour or a seam gives away."""

from __future__ import annotations

import json
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.feature import hog
from sklearn.neighbors import KNeighborsClassifier

from stages.data import scenes
from stages.data.formats import coco, folder
from stages.data.scenes.backgrounds import Photos
from stages.data.scenes.classes import CLASSES, MAKERS, THEMES
from stages.data.scenes.coco import annotation, run_lengths
from stages.data.scenes.compose import LEAST_AREA, LEAST_VISIBLE, compose
from stages.data.scenes.shapes import box, ellipse
from stages.data.scenes.sprites import Light, Part, draw, pose
from stages.data.scenes.textures import Material, Palette
from stages.report import Report

SIDE = 128
COUNTS = {"train": 120, "test": 60}


class Made(NamedTuple):
    out: Path
    report: Report
    documents: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def made(photos_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    out, report = tmp_path_factory.mktemp("scenes"), Report()
    scenes.run(out=out, report=report, photos=photos_dir, train_images=COUNTS["train"], test_images=COUNTS["test"],
               side=SIDE, seed=0, workers=1)  # fmt: skip
    documents = {split: json.loads((out / f"instances_{split}.json").read_text()) for split in COUNTS}
    return Made(out, report, documents)


@pytest.fixture
def photos(photos_dir: Path) -> Photos:
    return Photos(tuple(photos_dir / path for path in folder.read(photos_dir).paths), SIDE)


def decode(code: dict[str, Any]) -> np.ndarray:
    """COCO's run lengths, pixel by pixel as its description says: column by column, zeros first."""
    height, width = code["size"]
    pixels: list[int] = []
    for number, count in enumerate(code["counts"]):
        pixels += [number % 2] * count
    return np.array([[pixels[x * height + y] for x in range(width)] for y in range(height)], bool)


def test_any_number_of_workers_writes_the_same_bytes(photos_dir: Path, tmp_path: Path, made: Made) -> None:
    for workers in (1, 2):
        scenes.run(out=tmp_path / str(workers), report=Report(), photos=photos_dir, train_images=20, test_images=3,
                   side=SIDE, seed=0, workers=workers)  # fmt: skip
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 20 + 3 + 3
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file
        if file.suffix == ".jpg":  # and a scene does not depend on how many there are
            assert (tmp_path / "1" / file).read_bytes() == (made.out / file).read_bytes(), file


def test_seed_split_and_number_give_different_scenes(photos: Photos) -> None:
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    pictures = [compose(photos, np.random.default_rng(key)).pixels.astype(float) for key in keys]
    for one, other in combinations(pictures, 2):
        assert np.abs(one - other).mean() > 10


def test_files_are_valid_coco(made: Made) -> None:
    for split, document in made.documents.items():
        assert [image["id"] for image in document["images"]] == list(range(COUNTS[split]))
        for image in document["images"]:
            with Image.open(made.out / split / image["file_name"]) as picture:
                assert picture.format == "JPEG"
                assert picture.size == (image["width"], image["height"]) == (SIDE, SIDE)
        assert len(list((made.out / split).iterdir())) == COUNTS[split]
        assert [(c["id"], c["name"]) for c in document["categories"]] == list(enumerate(CLASSES, start=1))
        assert [label["id"] for label in document["annotations"]] == list(range(1, len(document["annotations"]) + 1))
        per_image = np.bincount([label["image_id"] for label in document["annotations"]], minlength=COUNTS[split])
        assert per_image.min() >= 2
        assert per_image.max() <= 7
        listing = coco.read(made.out / split, made.out / f"instances_{split}.json")
        assert listing.read_labels is not None
        assert len(listing.read_labels().objects) == len(document["annotations"])
    with Image.open(made.out / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 1000


def test_boxes_areas_and_masks_agree_and_masks_do_not_overlap(made: Made) -> None:
    document = made.documents["test"]
    taken = np.zeros((COUNTS["test"], SIDE, SIDE), int)
    for label in document["annotations"]:
        mask = decode(label["segmentation"])
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert label["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert label["area"] == mask.sum() >= LEAST_AREA * SIDE**2
        assert label["iscrowd"] == 0
        taken[label["image_id"]] += mask
    assert taken.max() == 1


def test_run_lengths_of_a_known_mask() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert run_lengths(mask) == {"counts": [2, 3, 1], "size": [2, 3]}
    assert run_lengths(~mask) == {"counts": [0, 2, 3, 1], "size": [2, 3]}


def test_every_class_occurs_about_as_often(made: Made) -> None:
    counts = made.report.metrics["objects_of_class"]
    assert list(counts) == list(CLASSES)
    mean = sum(counts.values()) / len(CLASSES)
    assert (
        sum(counts.values())
        == made.report.metrics["objects"]
        == sum(len(d["annotations"]) for d in made.documents.values())
    )
    assert 0.5 * mean < min(counts.values()) <= max(counts.values()) < 1.6 * mean


def test_every_label_is_mostly_seen_and_clutter_has_none(photos: Photos) -> None:
    clutter, cut, covered = 0, 0, 0
    for number in range(30):
        scene = compose(photos, np.random.default_rng([7, number]))
        for thing in scene.placed:
            if thing.label is None:
                clutter += bool(thing.mask().sum() > LEAST_AREA * SIDE**2)
                continue
            share = thing.mask().sum() / thing.area
            assert share >= LEAST_VISIBLE
            cut += share < 0.95
            box_of = annotation(thing, SIDE)["bbox"]
            covered += box_of[0] == 0 or box_of[1] == 0 or SIDE in (box_of[0] + box_of[2], box_of[1] + box_of[3])
    assert clutter >= 20
    assert cut >= 15, "hardly any object is covered"
    assert covered >= 5, "hardly any object is cut by the border"


def test_themes_bring_their_classes_together(photos: Photos) -> None:
    own, others = 0, 0
    for number in range(30):
        scene = compose(photos, np.random.default_rng([8, number]))
        if scene.theme is not None:
            labels = [thing.label for thing in scene.placed if thing.label is not None]
            own += sum(label in THEMES[scene.theme] for label in labels)
            others += sum(label not in THEMES[scene.theme] for label in labels)
    assert own > 3 * others > 0


def test_shape_gives_the_class_away_and_colour_does_not(made: Made) -> None:
    colors: dict[str, list[np.ndarray]] = {split: [] for split in COUNTS}
    gradients: dict[str, list[np.ndarray]] = {split: [] for split in COUNTS}
    classes: dict[str, list[int]] = {split: [] for split in COUNTS}
    for split, document in made.documents.items():
        pictures = [np.array(Image.open(made.out / split / image["file_name"])) for image in document["images"]]
        for label in document["annotations"]:
            picture, (x, y, w, h) = pictures[label["image_id"]], label["bbox"]
            flat = np.repeat(np.arange(len(label["segmentation"]["counts"])) % 2, label["segmentation"]["counts"])
            colors[split].append(picture[flat.reshape(SIDE, SIDE).T.astype(bool)].mean(axis=0))
            crop = cv2.resize(cv2.cvtColor(picture[y : y + h, x : x + w], cv2.COLOR_RGB2GRAY), (48, 48))
            gradients[split].append(hog(crop, pixels_per_cell=(8, 8), cells_per_block=(2, 2)))
            classes[split].append(label["category_id"])

    def accuracy(features: dict[str, list[np.ndarray]]) -> float:
        model = KNeighborsClassifier(9).fit(np.array(features["train"]), classes["train"])
        return float(model.score(np.array(features["test"]), classes["test"]))

    chance = 1 / len(CLASSES)
    assert accuracy(colors) < 2 * chance
    assert accuracy(gradients) > 3.5 * chance


@pytest.mark.parametrize("name", CLASSES)
def test_objects_fill_the_size_they_are_asked_for(name: str) -> None:
    light = Light(np.array([0.0, -0.5, 0.87], np.float32), 0.5)
    photo = np.full((16, 16, 3), 128, np.uint8)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        parts = MAKERS[name](rng, Palette(rng))
        sprite = draw(parts, pose(parts, 60, 0.3, 0.0, 1.0, mirror=bool(seed % 2)), light, photo, 0.5, rng)
        rows, columns = np.nonzero(sprite.alpha > 0.1)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(60, abs=3)
        assert sprite.alpha.max() <= 1 + 1e-5
        assert np.isfinite(sprite.color).all()


def test_coverage_is_the_area_of_the_outline() -> None:
    grey = np.full(3, 0.5, np.float32)
    part = Part([ellipse(0, 0, 1, 0.6)], Material(grey, grey), holes=[box(-0.3, -0.2, 0.3, 0.2)])
    light = Light(np.array([0.0, -0.5, 0.87], np.float32), 0.5)
    for size in (40.0, 200.0):  # drawn at twice the size, and as it is
        sprite = draw(
            [part],
            pose([part], size, 0.0, 0.0, 1.0, False),
            light,
            np.zeros((4, 4, 3), np.uint8),
            0.5,
            np.random.default_rng(0),
        )
        expected = (np.pi * 0.6 - 0.24) * (size / 2) ** 2
        assert sprite.alpha.sum() == pytest.approx(expected, rel=0.03)


def test_impossible_requests_say_what_to_do(tmp_path: Path, photos_dir: Path) -> None:
    run = partial(scenes.run, out=tmp_path / "out", report=Report(), train_images=1, test_images=1, seed=0, workers=1)
    with pytest.raises(ValueError, match="side=32"):
        run(photos=photos_dir, side=32)
    with pytest.raises(ValueError, match="no photograph"):
        run(photos=tmp_path, side=SIDE)
