"""The section `dataset`: what each format needs, and that it reaches the step that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.config.dataset import Dataset
from stages.config.files import load_config
from stages.config.reading import ConfigError
from stages.config.tree import Config
from stages.data import indexing
from stages.data.catalog import Catalog
from stages.data.formats import FORMATS, Source
from stages.execute import portable
from stages.planning import make_plan
from stages.report import Report
from stages.shards import LocalEngine


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("{format: openimages, root: x}", "format 'openimages' needs `annotations`"),
        ("{format: webdataset}", "format 'webdataset' needs `root`"),
        ("{format: class_folders}", "format 'class_folders' needs `root`"),
        ("{format: joined}", "format 'joined' needs `parts`"),
        ("{format: joined, root: x, parts: [{root: y}]}", "format 'joined' has no `root` of its own"),
        ("{format: folder, root: x, parts: [{root: y}]}", "format 'folder' has no `parts`"),
        ("{format: joined, parts: [{format: demo_photos}]}", "a part can't have the format 'demo_photos'"),
        ("{format: joined, parts: [{format: joined, parts: [{root: y}]}]}", "a part can't have the format 'joined'"),
        ("{format: joined, parts: [{root: y, min_side: 9}]}", "`min_side` belongs to the joined data set"),
        ("{format: joined, parts: [{format: coco, root: y}]}", "dataset.parts.0: format 'coco' needs `annotations`"),
        ("{format: joined, parts: [{root: y, anotations: z}]}", "dataset.parts.0.anotations: there is no such field. "
         "Did you mean annotations"),
        ("{format: openimages, root: x, annotations: y, min_classes: 0}", "dataset.min_classes = 0"),
    ],
)  # fmt: skip
def test_impossible_data_sets_say_what_is_missing(tmp_path: Path, dataset: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(f"dataset: {dataset}\n")
    with pytest.raises(ConfigError) as raised:
        load_config(str(tmp_path / "config.yaml"))
    assert message in str(raised.value)


def test_every_format_of_files_can_be_chosen() -> None:
    chosen = set(Dataset.model_json_schema()["$defs"]["Dataset"]["properties"]["format"]["enum"])
    assert chosen == {*FORMATS, "demo_photos", "scenes"}


@pytest.mark.parametrize(
    "dataset",
    [
        {"format": "folder", "root": "photos"},
        {"format": "openimages", "root": "a", "annotations": "b.csv", "class_names": "c.csv", "min_classes": 2},
        {"format": "webdataset", "root": "a", "split": "*.tar"},
        {"format": "joined", "parts": [{"root": "a"}, {"format": "voc", "root": "b", "split": "train"}]},
    ],
)
def test_every_field_reaches_the_format(dataset: dict[str, Any]) -> None:
    section = Dataset.model_validate(dataset)
    sources = Source(**section.source()).each()
    for (root, source), part in zip(sources, section.parts or [section], strict=True):
        assert root == part.root
        for name in Source.__dataclass_fields__:
            if name != "parts":
                assert getattr(source, name) == getattr(part, name)


def test_a_joined_data_set_from_the_plan_to_the_catalog(tmp_path: Path, photos_dir: Path) -> None:
    parts = [{"root": photos_dir / "first"}, {"format": "class_folders", "root": photos_dir}]
    config = Config.model_validate({"dataset": {"format": "joined", "parts": parts}})
    hashes = tmp_path / "cache" / "hashes.npy"

    def contents(dataset: Dataset) -> str:
        return indexing.fingerprint(cache=hashes, workers=1, **dataset.source())

    plan = make_plan(config, contents, hashes)
    roots = [photos_dir / "first", photos_dir]
    assert plan.nodes["regions"].arguments["root"] == roots
    json.dumps(portable(dict(plan.nodes["catalog"].arguments)))
    out = tmp_path / "out"
    out.mkdir()
    arguments = dict(plan.nodes["catalog"].arguments)
    indexing.run(**arguments | {"out": out, "report": Report(), "engine": LocalEngine(1)})
    assert len(Catalog(out, roots)) == 4 + 8
    moved = Config.model_validate({"dataset": {"format": "joined", "parts": parts[::-1]}})
    assert make_plan(moved, contents, hashes).keys["catalog"].version != plan.keys["catalog"].version
