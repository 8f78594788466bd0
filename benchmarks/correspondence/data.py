"""The photos that all parts measure on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.decode import decode
from stages.data.demo_photos import interior_photos, library_photos
from stages.data.formats.folder import SUFFIXES
from stages.report import Report

SIZE = 640, 480
# Data beside the checkout of a developer: VOC 2007, and photos of COCO, most of which are of this very size.
_BESIDE = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Data:
    """`folder` holds photos, and may be or hold a VOC2007 folder with labels; None: the photos of the libraries."""

    folder: Path | None
    work: Path

    @classmethod
    def find(cls, folder: Path | None, work: Path) -> Data:
        """`folder`, else the data beside the checkout, else the photos of the libraries."""
        if folder is None and _BESIDE.is_dir():
            folder = _BESIDE
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--data {folder} is no folder. Give one with photos, such as VOCdevkit/VOC2007.")
        return cls(folder, work)

    @property
    def source(self) -> str:
        """In words."""
        if self.folder is None:
            return "photos that come with the libraries, no labels"
        return "VOC 2007 with labels" if self.voc else "the folder given, no labels"

    @cached_property
    def voc(self) -> Path | None:
        """The VOC2007 folder in `folder`."""
        if self.folder is None:
            return None
        places = (self.folder, self.folder / "VOC2007", self.folder / "VOCdevkit" / "VOC2007")
        return next((place for place in places if (place / "Annotations").is_dir()), None)

    @cached_property
    def paths(self) -> list[Path]:
        """Photos that views, boxes and the whole stage are measured on: those of VOC where there are."""
        if self.folder is None:
            return library_photos() + interior_photos()
        found = sorted(path for path in (self.voc or self.folder).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"--data {self.folder} holds no photos.")
        return found

    def standard_photos(self, count: int) -> list[np.ndarray]:
        """(480, 640, 3) uint8 RGB each, of the photos that are enlarged least: enlarged ones are smooth, and easy."""
        candidates = self.paths
        if self.folder is not None:
            candidates = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        chosen = sorted(candidates, key=_enlargement)[:count]
        return [np.asarray(ImageOps.fit(decode(path), SIZE, Image.Resampling.BICUBIC)) for path in chosen]

    def catalog(self, count: int) -> Catalog:
        """The first `count` of `paths`, or as many as there are, in a folder of links."""
        root, out = self.work / f"photos-{count}", self.work / f"catalog-{count}"
        if not out.is_dir():
            root.mkdir()
            out.mkdir()
            for path in self.paths[:count]:
                (root / path.name).symlink_to(path.absolute())
            indexing.run(
                out=out, report=Report(), format="folder", root=root, min_side=32, max_rejected=0.0, workers=0
            )  # fmt: skip
        return Catalog(out, root)

    def labelled(self) -> Catalog:
        """The photos of VOC with their objects. Only where `voc` is not None."""
        assert self.voc is not None
        out = self.work / "catalog-voc"
        if not out.is_dir():
            out.mkdir()
            indexing.run(
                out=out, report=Report(), format="voc", root=self.voc, split="trainval", min_side=32, max_rejected=0.0,
                workers=0,
            )  # fmt: skip
        return Catalog(out, self.voc)


def _enlargement(path: Path) -> tuple[float, str]:
    """Factor by which the photo must grow to fill the size, 1 if it needs not; equal ones by name."""
    with Image.open(path) as photo:
        return max(1.0, SIZE[0] / photo.width, SIZE[1] / photo.height), path.name
