"""Measured depth: one map a photo, below a folder of depth maps where the photo lies below the data set's root.

NAME.png of 16 bits, `scale` units a metre, or NAME.npy of floats in metres; 0 where nothing was measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stages.data.catalog import Catalog

SUFFIXES = (".png", ".npy")
_EXPECTED = (
    "a depth map for each photo under the photo's path: 16-bit NAME.png or NAME.npy (metres), of the photo's size. For "
    "NYU Depth v2 get nyu_depth_v2_labeled.mat (1,449 frames) and splits.mat (the 654 to test on) from "
    "cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html, and write `images` as photos and `depths` as depth maps; its raw "
    "frames, for more training, are projected onto the photos by its toolbox"
)
_SHOWN = 3  # of the files that are missing


class DepthMaps:
    """The depth maps in `folder` of the photos in `catalog`. Pickles as paths.

    Args:
        scale: units of a 16-bit map in a metre.

    Raises:
        ValueError: the scale is not positive.
        FileNotFoundError: the folder, or a photo's map, is not there.
    """

    def __init__(self, catalog: Catalog, folder: Path, *, scale: float) -> None:
        if scale <= 0:
            raise ValueError(f"depth_scale={scale}: units of a 16-bit depth map in a metre, more than 0, as 1000.")
        if not folder.is_dir():
            raise FileNotFoundError(f"depth={folder} is no folder of depth maps. Expected: {_EXPECTED}.")
        self._catalog, self._folder, self._scale = catalog, folder, scale
        # As long as the first has it, all do: a look at every file that is not there would double the look-ups.
        self._suffix = next((s for s in SUFFIXES if len(catalog) and self._file(0, s).is_file()), SUFFIXES[0])
        missing = [path for path in map(self._file, range(len(catalog))) if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(catalog)} photos have no depth map in {folder}, such as "
                f"{', '.join(path.name for path in missing[:_SHOWN])}. Expected: {_EXPECTED}."
            )

    def __getitem__(self, image: int) -> np.ndarray:
        """(H, W) float32, metres; 0 where nothing was measured.

        Raises:
            ValueError: it can't be read, or is not of the photo's size.
        """
        path, (width, height) = self._file(image), self._catalog.sizes[image].tolist()
        try:
            depth = _read_png(path, self._scale) if self._suffix == ".png" else np.load(path, allow_pickle=False)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise ValueError(f"the depth map {path} can't be read: {error}. Write it again.") from error
        if depth.shape != (height, width) or not np.issubdtype(depth.dtype, np.floating):
            raise ValueError(
                f"the depth map {path} is {depth.dtype} of shape {depth.shape} where its photo asks for floats of "
                f"shape {(height, width)}. Expected: {_EXPECTED}."
            )
        return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)

    def _file(self, image: int, suffix: str | None = None) -> Path:
        return (self._folder / self._catalog.name(image)).with_suffix(suffix or self._suffix)


def _read_png(path: Path, scale: float) -> np.ndarray:
    with Image.open(path, formats=["PNG"]) as file:
        if not file.mode.startswith("I"):
            raise ValueError(f"it has the mode {file.mode}, and depth needs one channel of 16 bits")
        return np.asarray(file).astype(np.float32) / np.float32(scale)
