"""Reading a catalog: which photos a data set holds, and their labels where it has any.

`images.parquet` is for people and for figures over the whole. Programs read a photo at a time, in any order, from any
number of processes: for them the same facts lie in .npy files, which are mapped into memory. Opening a catalog
reads nothing, so that ten million photos open as fast as ten, and processes of one machine share the pages they touch.
(Parquet would decompress a block of thousands of rows to find one, and a data frame takes seconds and gigabytes.)

    paths.npy         (bytes,) uint8: the UTF-8 of all paths, end to end
    path_starts.npy   (N + 1,) int64: where each path begins
    sizes.npy         (N, 2) int32: width and height
    sha256.npy        (N, 32) uint8
    parts.npy         (N,) uint16: number of the part; of joined data sets only
    members.npy       (N, 2) int64: first byte and length in the tar archive, or -1; where there are archives only
    classes.npy       (N,) int32: the class of the whole photo, or -1; where the data set has such classes only
    labels.parquet    one row an object, in the order of the photos; where the data set has boxes only
    categories.json   names that classes and objects refer to
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.data import archives
from stages.data.decode import PhotoInfo, Rejection, decode, decode_pixels, inspect, inspect_content, rejection
from stages.data.label_table import LabelTable
from stages.data.mapped import Mapped
from stages.data.texts import Texts

# One folder, or for joined data sets one a part.
Roots = Path | Sequence[Path]


class Catalog:
    """The `catalog` artifact in `directory`, over the photos below `root`. Pickles as these paths.

    Paths in it are relative to `root`, so that a data set may move. Images are numbered 0 .. N-1 in the order of
    `images.parquet`; every other artifact refers to them by that number.
    """

    def __init__(self, directory: Path, root: Roots) -> None:
        self.directory = Path(directory)
        self.root = Path(root) if isinstance(root, str | Path) else tuple(map(Path, root))
        self._parts, self._members = self._optional("parts.npy"), self._optional("members.npy")
        if isinstance(self.root, Path) != (self._parts is None):
            raise ValueError(
                f"the catalog {self.directory} is {'not ' if self._parts is None else ''}of joined data sets, but its "
                f"root is {root}. Pass the root of the data set, or for joined ones the roots of the parts in a list."
            )

    def __getstate__(self) -> tuple[Path, Roots]:
        return self.directory, self.root

    def __setstate__(self, state: tuple[Path, Roots]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) int32: width and height in pixels, EXIF orientation applied."""
        return Mapped(self.directory / "sizes.npy").array

    @cached_property
    def _names(self) -> Texts:
        text, starts = (Mapped(self.directory / name).array for name in ("paths.npy", "path_starts.npy"))
        return Texts(text, starts)

    @cached_property
    def _sha256(self) -> np.ndarray:
        return Mapped(self.directory / "sha256.npy").array

    def _optional(self, name: str) -> np.ndarray | None:
        path = self.directory / name
        return Mapped(path).array if path.is_file() else None

    @cached_property
    def images(self) -> pd.DataFrame:
        """`images.parquet` as a whole: gigabytes for millions of photos, so only for what needs all of it."""
        return pd.read_parquet(self.directory / "images.parquet")

    def name(self, image: int) -> str:
        """The photo's path relative to its root; of one in an archive `shards/000.tar/0001.jpg`."""
        return self._names[int(image)]

    def sha256(self, image: int) -> str:
        """Of the photo's content, 64 hexadecimal digits."""
        return self._sha256[image].tobytes().hex()

    def place(self, image: int) -> str:
        """The photo's whole path, for messages; of one in an archive, the archive's path and the name in there."""
        return f"{self._root_of(image)}/{self.name(image)}"

    def _root_of(self, image: int) -> Path:
        return self.root if isinstance(self.root, Path) else self.root[int(self._parts[image])]  # type: ignore[index]

    def path(self, image: int) -> Path:
        """The file that holds the photo: its own, or the archive."""
        name = self.name(image)
        return self._root_of(image) / (archives.archive_of(name) if self._archived(image) else name)

    def _archived(self, image: int) -> bool:
        return self._members is not None and bool(self._members[image, 0] >= 0)

    def read(self, image: int) -> bytes:
        """The content of the photo's file.

        Raises:
            OSError: it can't be read, or its archive is shorter than it was.
        """
        if self._archived(image):
            offset, size = self._members[image].tolist()  # type: ignore[index]
            return archives.read_member(self.path(image), offset, size)
        with open(self.place(image), "rb", buffering=0) as file:  # a Path would take twice as long
            return file.read()

    def inspect(self, image: int) -> PhotoInfo | Rejection:
        """What the photo is now, or why it can't be used any more; see `stages.data.decode.inspect`."""
        if not self._archived(image):
            return inspect(self.path(image), min_side=1)
        try:
            return inspect_content(self.read(image), min_side=1)
        except OSError as error:
            return rejection(error)

    def decode(self, image: int, reduction: int = 1) -> Image.Image:
        """The photo as an upright RGB PIL image; see `stages.data.decode.decode` for `reduction`."""
        return decode(io.BytesIO(self.read(image)), reduction)

    def pixels(self, image: int, reduction: int = 1) -> np.ndarray:
        """The pixels of `decode(image, reduction)`, (H, W, 3) uint8 RGB; see `stages.data.decode.decode_pixels`."""
        return decode_pixels(self.read(image), reduction)

    @property
    def has_labels(self) -> bool:
        """Whether there are boxes of objects."""
        return (self.directory / "labels.parquet").is_file()

    @cached_property
    def labels(self) -> pd.DataFrame:
        """One row an object: image, category (index into `categories`), x0, y0, x1, y1, difficult, crowd, segmentation.

        Raises:
            ValueError: the data set has no labels.
        """
        return self._label_table.whole()

    def labels_of(self, first: int, last: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of `labels` that belong to photos first .. last - 1; reads little more of the file than these.

        Args:
            columns: only these; boxes without `segmentation` are read much faster.

        Raises:
            ValueError: the data set has no labels.
        """
        return self._label_table.of(first, last, columns)

    @cached_property
    def _label_table(self) -> LabelTable:
        if not self.has_labels:
            raise ValueError(
                f"the catalog of {self.root} has no labels. Evaluation needs them: use a data set in COCO or VOC "
                "format, or leave the labelled data sets out of the evaluation section."
            )
        return LabelTable(self.directory / "labels.parquet")

    @cached_property
    def classes(self) -> np.ndarray | None:
        """(N,) int32: the class of each photo as a whole (index into `categories`), -1 for a photo without; None where
        the data set knows of no such classes. They are no boxes: where in a photo the class is, nobody has said."""
        return self._optional("classes.npy")

    @cached_property
    def categories(self) -> list[str]:
        """Names of the categories, in the order of `labels.category` and `classes`."""
        return json.loads((self.directory / "categories.json").read_text())
