"""The photos that views are made of: JPEGs of 640 x 480, their catalog, and small copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from stages.data import copies, indexing
from stages.data.catalog import Catalog
from stages.data.decode import decode
from stages.data.demo_photos import interior_photos, library_photos
from stages.data.formats.folder import SUFFIXES
from stages.report import Report

SIZE = (640, 480)
QUALITY = 90
COPY_SIDE = 256  # 341 x 256

# Photos of COCO beside the checkout of a developer: most of them are of this very size.
_COCO = Path(__file__).parents[3] / "shared" / "data" / "coco"
_LOOKED_AT = 1000


@dataclass(frozen=True)
class Photos:
    """source: where they are from, in words."""

    catalog: Catalog
    copies: Path
    source: str

    def paths(self) -> list[Path]:
        return [self.catalog.path(image) for image in range(len(self.catalog))]

    def figures(self) -> dict[str, object]:
        """JSON values."""
        sizes = [path.stat().st_size for path in self.paths()]
        return {"source": self.source, "photos": len(sizes), "size": SIZE, "kilobytes": sum(sizes) / len(sizes) / 1000}


def make_photos(out: Path, folder: Path | None, count: int) -> Photos:
    """Writes up to `count` photos of `folder` into `out`; where none is given, of COCO if there, else of the demo.

    Those that are enlarged least come first: enlarged photos are smoother than real ones, and cheaper to decode.

    Raises:
        ValueError: `folder` holds no photos.
    """
    sources, source = _sources(folder)
    root, catalog, small = out / "photos", out / "catalog", out / "copies"
    for each in (root, catalog, small):
        each.mkdir()
    for number, path in enumerate(sorted(sources, key=_enlargement)[:count]):
        photo = ImageOps.fit(decode(path), SIZE, Image.Resampling.BICUBIC)
        photo.save(root / f"{number:04d}.jpg", quality=QUALITY)
    indexing.run(
        out=catalog, report=Report(), format="folder", root=root, annotations=None, split=None, list_file=None,
        min_side=32, max_rejected=0.0, workers=0,
    )  # fmt: skip
    copies.run(out=small, report=Report(), catalog=catalog, root=root, side=COPY_SIDE, quality=QUALITY, workers=0)
    return Photos(Catalog(catalog, root), small, source)


def _sources(folder: Path | None) -> tuple[Sequence[Path], str]:
    if folder is None and not _COCO.is_dir():
        return library_photos() + interior_photos(), "photos of the demo"
    chosen = folder or _COCO
    paths = sorted(path for path in chosen.rglob("*") if path.suffix.lower() in SUFFIXES)[:_LOOKED_AT]
    if not paths:
        raise ValueError(f"--images {chosen} holds no photos. Give a folder with some, or leave it out.")
    return paths, "COCO 2017" if folder is None else "the folder given"


def _enlargement(path: Path) -> float:
    """Factor by which the photo must grow to fill the size, 1 if it needs not."""
    with Image.open(path) as photo:
        return max(1.0, SIZE[0] / photo.width, SIZE[1] / photo.height)
