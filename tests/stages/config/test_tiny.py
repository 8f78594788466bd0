"""The rehearsal of a configuration: small, of the same kind, and without any file that the configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.config.files import config_names, load_config
from stages.config.section import Section
from stages.config.tiny import shrunk
from stages.config.tree import Config


def places(section: Section, above: str = "") -> dict[str, Path]:
    """The paths that are set anywhere in `section`."""
    found: dict[str, Path] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            found |= places(value, f"{above}{name}.")
        elif isinstance(value, Path):
            found[above + name] = value
    return found


@pytest.mark.parametrize("name", config_names())
def test_what_chooses_a_method_stays(name: str) -> None:
    config = load_config(name)
    before, after = config.object_pretraining, shrunk(config).object_pretraining
    assert (after.method, after.init, after.needs, after.crops.mode) == (
        before.method, before.init, before.needs, before.crops.mode
    )  # fmt: skip
    kept = "regions", "pooling", "reading", "negatives", "views", "schedule", "temperature", "jitter", "small_views"
    for field in kept:
        assert getattr(after.recipe, field, None) == getattr(before.recipe, field, None)
    segmented = shrunk(config).masks.felzenszwalb
    assert len(segmented.scales) == len(config.masks.felzenszwalb.scales)


def test_files_are_not_needed(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    probe = {"data": {"format": "voc", "root": missing, "split": "train"}}
    config = Config.model_validate({
        "dataset": {"format": "folder", "root": missing},
        "regions": {"proposals": "bing", "bing": {"models": missing}},
        "masks": {"method": "files", "files": {"folder": missing}},
        "exchange": {"neighbors": missing},
        "image_pretraining": {"probe": probe},
        "object_pretraining": {"method": "detcon_s", "detcon_s": {"pooling": "soft"}},
    })  # fmt: skip
    tiny = shrunk(config)
    # Of the same kind: boxes ranked by their objectness, masks that may overlap.
    assert (tiny.regions.proposals, tiny.masks.method) == ("edge_boxes", "ground_truth")
    assert tiny.masks.may_overlap
    assert tiny.exchange == type(tiny.exchange)()
    assert tiny.image_pretraining.probe is not None
    assert tiny.image_pretraining.probe.data.format == "scenes"
    # Those of sections that nothing reads any more may stay.
    assert set(places(tiny)) == {"regions.bing.models", "masks.files.folder"}


def test_no_more_neighbors_are_used_than_a_rehearsal_mines() -> None:
    tiny = shrunk(load_config("coco", ["object_pretraining.orl.neighbors=5"]))
    assert tiny.object_pretraining.orl.neighbors == tiny.retrieval.neighbors == 3
