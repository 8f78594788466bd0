"""Small copies: the right pixels in one file, resumable, and as good to draw from as their size allows."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data import copies, indexing
from stages.data.catalog import Catalog
from stages.data.copies import Copies
from stages.data.loading import training_loader
from stages.data.photos import Photos
from stages.data.policies import ImageViews
from stages.data.unreadable import UnreadablePhoto
from stages.report import Report

CPU = torch.device("cpu")


def run(catalog: Catalog, out: Path, *, side: int = 96, workers: int = 0, report: Report | None = None) -> Copies:
    out.mkdir(exist_ok=True)
    copies.run(
        out=out, report=report or Report(), catalog=catalog.directory, root=catalog.root, side=side, quality=90,
        workers=workers,
    )  # fmt: skip
    return Copies(out)


@pytest.fixture(scope="module")
def small(photo_catalog, tmp_path_factory) -> Copies:
    return run(photo_catalog, tmp_path_factory.mktemp("copies"))


def test_a_copy_is_the_photo_with_a_shorter_side(photo_catalog, small):
    assert len(small) == len(photo_catalog) == 8
    for image in range(8):
        width, height = photo_catalog.sizes[image]
        pixels = small.pixels(image)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert min(pixels.shape[:2]) == 96
        assert pixels.shape[1] / pixels.shape[0] == pytest.approx(width / height, rel=0.01)
        exact = photo_catalog.decode(image).resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.BICUBIC)
        assert np.abs(pixels.astype(float) - np.asarray(exact)).mean() < 7  # what JPEG loses
        with Image.open(io.BytesIO(small.jpeg(image))) as opened:
            assert np.array_equal(np.asarray(opened), pixels)


def test_the_file_opens_in_one_line(small):
    offsets = np.load(small.directory / "offsets.npy")
    assert offsets.dtype == np.int64
    assert offsets[0] == 0
    assert offsets[-1] == (small.directory / "photos.jpegs").stat().st_size
    first = (small.directory / "photos.jpegs").read_bytes()[: offsets[1]]
    assert first == small.jpeg(0)


def test_small_photos_keep_their_size_and_odd_ones_are_upright_rgb(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    smooth = Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    smooth.save(root / "a_turned.jpg", exif=exif)
    smooth.convert("CMYK").save(root / "b_cmyk.jpg")
    smooth.convert("L").save(root / "c_gray.png")
    smooth.resize((90, 60)).save(root / "d_small.png")
    indexing.run(
        out=tmp_path, report=Report(), format="folder", root=root, annotations=None, split=None, list_file=None,
        min_side=32, max_rejected=0, workers=0,
    )  # fmt: skip
    report = Report()
    made = run(Catalog(tmp_path, root), tmp_path / "copies", side=100, report=report)
    assert [made.pixels(image).shape for image in range(4)] == [
        (150, 100, 3), (100, 150, 3), (100, 150, 3), (60, 90, 3)
    ]  # fmt: skip
    upright = np.asarray(smooth.transpose(Image.Transpose.ROTATE_270).resize((100, 150)))
    assert np.abs(made.pixels(0).astype(float) - upright).mean() < 3
    assert report.metrics["photos"] == 4
    assert report.metrics["bytes"] == (tmp_path / "copies" / "photos.jpegs").stat().st_size


def files(made: Copies) -> tuple[bytes, bytes]:
    return (made.directory / "photos.jpegs").read_bytes(), (made.directory / "offsets.npy").read_bytes()


def test_workers_make_the_same_file(photo_catalog, small, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_SHARD", 3)
    assert files(run(photo_catalog, tmp_path, workers=2)) == files(small)


class Interrupted(Report):
    """Fails when `limit` photos are done; notes which were reported."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.seen = limit, []

    def progress(self, done: int, total: int, unit: str = "images", **figures: float) -> None:
        self.seen.append(done)
        if done >= self.limit:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_was(photo_catalog, small, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_SHARD", 1)
    monkeypatch.setattr(copies, "_SHARDS_BETWEEN_CHECKPOINTS", 2)
    with pytest.raises(KeyboardInterrupt):
        run(photo_catalog, tmp_path, report=Interrupted(5))
    rest = Interrupted(99)
    assert files(run(photo_catalog, tmp_path, report=rest)) == files(small)
    assert rest.seen == [5, 6, 7, 8]  # four were safe, the fifth is made again

    again = Interrupted(99)
    (tmp_path / "photos.jpegs").write_bytes(b"shorter than the checkpoint says")
    assert files(run(photo_catalog, tmp_path, report=again)) == files(small)
    assert again.seen == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_that_vanished_is_named(photo_catalog, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(copies, "_SHARD", 3)
    catalog = Catalog(photo_catalog.directory, tmp_path)
    with pytest.raises(UnreadablePhoto, match=r"could be used when the catalog was made.*missing: no such file"):
        run(catalog, tmp_path / "copies", workers=workers)


def test_the_reader_pickles_as_its_path(small):
    small.pixels(0)
    state = pickle.dumps(small)
    assert len(state) < 1000
    assert np.array_equal(pickle.loads(state).pixels(5), small.pixels(5))  # noqa: S301


@pytest.mark.parametrize("renderer", ["cpu", "device"])
def test_views_of_copies_show_what_views_of_photos_show(photo_catalog, small, renderer):
    """Photos of 256 pixels, copies of about 144 x 96, views of 32: a copy has enough pixels for most crops."""

    def views(**settings) -> dict[str, torch.Tensor]:
        policy = ImageViews(photo_catalog.sizes, size=32, scale=(0.3, 1.0))
        (batch,) = training_loader(
            photo_catalog, policy, seed=0, batch_size=8, first_step=0, last_step=1, renderer=renderer, **settings
        )  # fmt: skip
        return batch.on(CPU)

    exact, close = views(workers=0), views(workers=1, copies=small.directory)
    for name in exact:
        error = (exact[name].float() - close[name].float()).abs().mean(dim=(1, 2, 3))
        wrong = (exact[name].float() - exact[name].roll(1, 0).float()).abs().mean(dim=(1, 2, 3))
        assert error.max() < 10  # levels of 0 .. 255
        assert error.mean() < 0.1 * wrong.mean()


def test_copies_need_no_photos(photo_catalog, small, tmp_path):
    photo = Photos(Catalog(photo_catalog.directory, tmp_path), small).open(2)
    assert photo.pixels.shape == small.pixels(2).shape
    width, height = photo_catalog.sizes[2]
    assert (photo.scale_x * width, photo.scale_y * height) == (photo.pixels.shape[1], photo.pixels.shape[0])


def test_copies_of_another_catalog_are_refused(photo_catalog, small, tmp_path, write_catalog):
    write_catalog(tmp_path, photo_catalog.images.iloc[:5])
    with pytest.raises(ValueError, match=r"holds 8 copies for the 5 photos.*not of one run"):
        Photos(Catalog(tmp_path, photo_catalog.root), small)


def test_a_damaged_copy_is_an_unreadable_photo(photo_catalog, small, tmp_path):
    (tmp_path / "offsets.npy").write_bytes((small.directory / "offsets.npy").read_bytes())
    (tmp_path / "photos.jpegs").write_bytes(small.jpeg(0))
    damaged = Photos(photo_catalog, Copies(tmp_path))
    damaged.open(0)
    with pytest.raises(RuntimeError, match=r"no longer can: its copy in .*: \w"):
        damaged.open(1)
