"""Masks that another program has made, such as MCG, SAM or Mask R-CNN: one file a photo, see docs/masks.md."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from stages.correspondence.masks.outlines import mask_of
from stages.data.catalog import Catalog
from stages.data.masks.segmentation import MaskStack, Segment, Size, runs_of_mask

_SCORES = ("score", "predicted_iou")  # of COCO's results; of Segment Anything


def make(*, catalog: Catalog, folder: Path, top: int) -> tuple[list[str], Segment]:
    """The `top` masks with the highest scores of each photo (DetCon takes 16 of MCG's); they may overlap.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"masks.files.folder={folder} is no folder. Pass that with the masks of the photos.")

    def segment(image: int) -> MaskStack:
        width, height = catalog.sizes[image].tolist()
        path = _file_of(catalog.name(image), folder)
        try:
            read = _read_json if path.suffix == ".json" else _read_npz
            runs, scores = read(path, (width, height), top)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} cannot be used for {catalog.place(image)}: {error}. See docs/masks.md for its form."
            ) from error
        return MaskStack.of((width, height), runs, scores)

    return [], segment


def _file_of(name: str, folder: Path) -> Path:
    candidates = [folder / Path(name).with_suffix(suffix) for suffix in (".json", ".npz")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"there are no masks of the photo {name} in {folder}: neither {candidates[0].name} nor {candidates[1].name} at "
        "its place. Make them, or leave the photo out of the data set. A photo without masks has an empty list."
    )


def _best(scores: np.ndarray, top: int) -> np.ndarray:
    """The numbers of the `top` highest scores, in the order in which they were listed."""
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"scores of shape {scores.shape}, some maybe no numbers; each mask needs one finite score")
    return np.sort(np.argsort(-scores, kind="stable")[:top])


def _read_json(path: Path, size: Size, top: int) -> tuple[list[np.ndarray], np.ndarray]:
    """COCO's list of results for one photo, or a dictionary with that list as `annotations` (Segment Anything)."""
    content = json.loads(path.read_text())
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it is neither a list of masks nor a dictionary with such a list as `annotations`")
    photos = {str(entry["image_id"]) for entry in entries if "image_id" in entry}
    if len(photos) > 1:
        raise ValueError(f"it holds masks of {len(photos)} photos (image_id {', '.join(sorted(photos)[:3])} ...)")
    scores = np.array([_score(entry) for entry in entries], np.float32)
    chosen = _best(scores, top)
    return [runs_of_mask(mask_of(entries[i].get("segmentation"), size)) for i in chosen], scores[chosen]


def _score(entry: dict[str, Any]) -> float:
    for name in _SCORES:
        if isinstance(entry.get(name), int | float):
            return float(entry[name])
    raise ValueError(f"a mask has no number as {' or '.join(_SCORES)}, only {', '.join(map(str, entry))}")


def _read_npz(path: Path, size: Size, top: int) -> tuple[list[np.ndarray], np.ndarray]:
    """`masks` (n, H, W) bool or uint8 and `scores` (n,), read a mask at a time: MCG makes thousands."""
    with np.load(path, allow_pickle=False) as arrays:
        scores = np.asarray(arrays["scores"], np.float32)
    chosen = set(_best(scores, top).tolist())
    with zipfile.ZipFile(path) as archive, archive.open("masks.npy") as file:
        runs = [runs_of_mask(mask) for number, mask in enumerate(_masks(file, size, len(scores))) if number in chosen]
    return runs, scores[sorted(chosen)]


def _masks(file: IO[bytes], size: Size, count: int) -> Iterator[np.ndarray]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("`masks` is no plain array")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    width, height = size
    if shape != (count, height, width) or fortran_order or dtype not in (np.dtype(bool), np.dtype(np.uint8)):
        raise ValueError(
            f"`masks` is {shape} {dtype}{' in Fortran order' if fortran_order else ''} where the {count} scores and "
            f"the photo's size ask for ({count}, {height}, {width}), bool or uint8, in C order"
        )
    for _ in range(count):
        yield np.frombuffer(file.read(width * height), np.uint8).reshape(height, width) != 0
