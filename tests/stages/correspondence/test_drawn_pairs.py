"""What ORL's training draws of the pairs that this stage has mined: from real photos, by the real steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stages.correspondence import pairs as pairs_step
from stages.data.catalog import Catalog
from stages.data.policies import ImageViews, OrlViews
from stages.data.views import View, view_rng
from stages.report import Report
from tests.stages.correspondence.mined_files import CORNERS

KEY = ["image", "neighbor", *CORNERS, *(f"neighbor_{corner}" for corner in CORNERS)]
EPOCHS = 60


@pytest.fixture(scope="module")
def mined(photo_catalog: Catalog, neighbors: Path, regions: Path, features: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pairs")
    pairs_step.run(
        out=out, report=Report(), catalog=photo_catalog.directory, root=photo_catalog.root, retrieval=neighbors,
        regions=regions, roi_features=features, fraction=0.5, fraction_of="query_boxes", mutual=False, unique=False,
        min_similarity=None, gallery_images=1, device="cpu", workers=1,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def table(mined: Path) -> pd.DataFrame:
    table = pd.read_parquet(mined / "pairs.parquet")
    assert table.groupby(["image", "rank"]).size().max() > 3
    return table


def plans(photos: Catalog, regions: Path, mined: Path, **settings) -> list[dict[str, View]]:
    policy = OrlViews(ImageViews(photos.sizes, size=32), regions, mined, patch_size=16, **settings)
    return [policy.plan(view_rng(0, epoch, image), image) for epoch in range(EPOCHS) for image in range(len(photos))]


def rows(plans: list[dict[str, View]], table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table` that the pairs of plans are, one for each of them."""
    drawn = pd.DataFrame(
        [(v["inter_1"].image, v["inter_2"].image, *v["inter_1"].box, *v["inter_2"].box) for v in plans], columns=KEY
    )
    return drawn.merge(table, on=KEY)  # an inner join: pairs that were not mined are lost


def test_a_pair_is_one_that_was_mined(photo_catalog, regions, mined, table):
    drawn = plans(photo_catalog, regions, mined)
    found = rows(drawn, table)
    assert len(found) == len(drawn)
    assert set(found["rank"]) == {0, 1, 2}
    assert found["pair"].max() > 3


def test_boxes_within_a_photo_are_its_own(photo_catalog, regions, mined):
    boxes = pd.read_parquet(regions / "boxes.parquet")
    known = set(boxes[["image", *CORNERS]].itertuples(index=False, name=None))
    drawn = plans(photo_catalog, regions, mined)
    assert {(views["intra_1"].image, *views["intra_1"].box) for views in drawn} <= known


def test_pairs_of_a_neighbour_fall_in_similarity(table):
    """So the first ones are the most similar."""
    for _, group in table.groupby(["image", "rank"]):
        assert group["pair"].tolist() == list(range(len(group)))
        assert group["similarity"].is_monotonic_decreasing


def test_fewer_neighbours_are_the_nearest(photo_catalog, regions, mined, table):
    found = rows(plans(photo_catalog, regions, mined, neighbors=2), table)
    assert set(found["rank"]) == {0, 1}
    assert len(found) == EPOCHS * len(photo_catalog)


@pytest.mark.parametrize("share", [0.34, 0.01])
def test_fewer_pairs_are_the_most_similar(photo_catalog, regions, mined, table, share):
    found = rows(plans(photo_catalog, regions, mined, pairs=share), table)
    counts = table.groupby(["image", "rank"]).size()
    limit = [max(1, int(share * counts[key])) for key in zip(found["image"], found["rank"], strict=True)]
    assert (found["pair"] < limit).all()
    assert (found["pair"] == pd.Series(limit) - 1).any()
    assert len(found) == EPOCHS * len(photo_catalog)


def test_fewer_neighbours_or_pairs_change_the_boxes_of_their_pair_alone(photo_catalog, regions, mined):
    """So runs of table 5b see the same otherwise, colours of the pair included."""

    def without_pair(views: dict[str, View]) -> dict[str, View]:
        return {
            name: replace(view, image=0, box=(0, 0, 1, 1)) if name.startswith("inter") else view
            for name, view in views.items()
        }

    whole, few = plans(photo_catalog, regions, mined), plans(photo_catalog, regions, mined, neighbors=1, pairs=0.1)
    assert whole != few
    assert [without_pair(views) for views in whole] == [without_pair(views) for views in few]


def test_no_more_neighbours_than_were_mined(photo_catalog, regions, mined):
    with pytest.raises(ValueError, match=r"neighbors=4, but pairs were mined with 3 neighbours a photo: use 1 to 3"):
        plans(photo_catalog, regions, mined, neighbors=4)
    with pytest.raises(ValueError, match=r"pairs=0: give the share of each neighbour's pairs"):
        plans(photo_catalog, regions, mined, pairs=0)


def test_photos_whose_nearest_neighbour_has_no_pair_draw_from_the_next(
    photo_catalog, neighbors, regions, features, tmp_path
):
    """`min_similarity` leaves neighbours without pairs; the nearest ones are counted among those that have some."""
    pairs_step.run(
        out=tmp_path, report=Report(), catalog=photo_catalog.directory, root=photo_catalog.root, retrieval=neighbors,
        regions=regions, roi_features=features, fraction=0.5, fraction_of="query_boxes", mutual=False, unique=False,
        min_similarity=2.0, gallery_images=1, device="cpu", workers=1,
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    assert len(table) == len(photo_catalog)  # the best pair of each alone
    assert table["rank"].max() > 0
    assert len(rows(plans(photo_catalog, regions, tmp_path, neighbors=1), table)) == EPOCHS * len(photo_catalog)
