"""Masks that other programs have made: COCO results, Segment Anything's files, arrays; and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.correspondence.masks.files import make
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import MaskStack

HERE = "first"  # the folder of the first photo


@pytest.fixture
def size(photo_catalog: Catalog) -> tuple[int, int]:
    width, height = photo_catalog.sizes[0].tolist()
    return width, height


def counts(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run lengths, as a list."""
    flat = np.concatenate([[False], mask.T.reshape(-1), [False]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff([0, *ends.tolist(), mask.size]).tolist()}


@pytest.fixture
def stack(size: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((4, size[1], size[0]), bool)
    for number, mask in enumerate(masks):
        mask[number : 40 + number, 5 : 60 + 10 * number] = True
    return masks


SCORES = [0.2, 0.9, 0.4, 0.6]


def read(folder: Path, catalog: Catalog, top: int = 16) -> MaskStack:
    layers, segment = make(catalog=catalog, folder=folder, top=top)
    assert layers == []
    found = segment(0)
    assert isinstance(found, MaskStack)
    return found


def path_of(folder: Path, catalog: Catalog, suffix: str) -> Path:
    path = (folder / catalog.name(0)).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_masks_with_the_highest_scores_are_kept(tmp_path: Path, photo_catalog: Catalog, stack: np.ndarray) -> None:
    entries = [
        {"image_id": 7, "category_id": 1, "segmentation": counts(mask), "score": score}
        for mask, score in zip(stack, SCORES, strict=True)
    ]
    path_of(tmp_path, photo_catalog, ".json").write_text(json.dumps(entries))
    found = read(tmp_path, photo_catalog, top=3)
    np.testing.assert_array_equal(list(found.masks()), stack[[1, 3, 2]])
    np.testing.assert_array_equal(found.scores, np.float32([0.9, 0.6, 0.4]))


def test_files_of_segment_anything_are_read(tmp_path: Path, photo_catalog: Catalog, stack: np.ndarray) -> None:
    entries = [{"segmentation": counts(stack[0]), "predicted_iou": 0.8, "stability_score": 0.9}]
    content = {"image": {"image_id": 1}, "annotations": entries}
    path_of(tmp_path, photo_catalog, ".json").write_text(json.dumps(content))
    np.testing.assert_array_equal(list(read(tmp_path, photo_catalog).masks()), stack[:1])


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_arrays_are_read(tmp_path: Path, photo_catalog: Catalog, stack: np.ndarray, dtype: type) -> None:
    np.savez_compressed(path_of(tmp_path, photo_catalog, ".npz"), masks=stack.astype(dtype), scores=SCORES)
    np.testing.assert_array_equal(list(read(tmp_path, photo_catalog, top=2).masks()), stack[[1, 3]])


def test_a_photo_without_masks_has_an_empty_list(tmp_path: Path, photo_catalog: Catalog) -> None:
    path_of(tmp_path, photo_catalog, ".json").write_text("[]")
    found = read(tmp_path, photo_catalog)
    assert np.isnan(found.scores).all()
    assert next(found.masks()).all()


def test_a_missing_file_names_photo_and_folder(tmp_path: Path, photo_catalog: Catalog) -> None:
    with pytest.raises(FileNotFoundError, match=f"{photo_catalog.name(0)} in {tmp_path}"):
        read(tmp_path, photo_catalog)
    with pytest.raises(NotADirectoryError, match="is no folder"):
        read(tmp_path / "nowhere", photo_catalog)


OTHER = {"size": [3, 4], "counts": [12]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"segmentation"', "docs/masks.md"),
        ('{"images": []}', "neither a list"),
        ("[1]", "neither a list"),
        ([{"segmentation": OTHER, "score": 0.5}], r"a mask of `size` \[3, 4\] for a photo of height"),
        ([{"segmentation": OTHER}], "no number as score or predicted_iou"),
        ([{"segmentation": OTHER, "score": float("nan")}], "finite"),
        ([{"score": 0.5}], "polygons or a dictionary"),
        ([{"image_id": each, "segmentation": OTHER, "score": 1} for each in (1, 2)], "masks of 2 photos"),
    ],
)
def test_files_of_another_data_set_are_refused(
    tmp_path: Path, photo_catalog: Catalog, content: Any, message: str
) -> None:
    path = path_of(tmp_path, photo_catalog, ".json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, photo_catalog)
    assert str(path) in str(error.value)
    assert photo_catalog.place(0) in str(error.value)


def test_arrays_of_another_photo_are_refused(tmp_path: Path, photo_catalog: Catalog, stack: np.ndarray) -> None:
    path = path_of(tmp_path, photo_catalog, ".npz")
    bad: list[dict[str, Any]] = [
        {"masks": stack[:, 1:], "scores": SCORES},
        {"masks": stack, "scores": SCORES[1:]},
        {"masks": stack.astype(np.float32), "scores": SCORES},
        {"masks": stack},
        {"masks": np.array([None]), "scores": SCORES[:1]},  # would be unpickled
    ]
    for arrays in bad:
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=r"docs/masks\.md"):
            read(tmp_path, photo_catalog)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"docs/masks\.md"):
        read(tmp_path, photo_catalog)
