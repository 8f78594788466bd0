"""Suites: every shipped one is valid, says where its data are from, and has a rehearsal."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stages.config.reading import ConfigError
from stages.config.suite import SUITE_FOLDERS, load_suite, suite_names
from stages.evaluation.published import data_sets, published_tables

SHIPPED = [name for name in suite_names() if name != "scenes"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_suite(name: str) -> None:
    suite = load_suite(name)
    header = (SUITE_FOLDERS[1] / f"{name}.yaml").read_text().split("\ntitle:")[0]
    assert suite.protocols
    assert suite.layout is not None, "an absent data set must be described"
    assert suite.layout.startswith("Expected: ")
    assert all(f"#   {word}" in header for word in ("command", "data"))
    assert f"--on {name} " in header
    if suite.published is not None:
        assert suite.published in data_sets()
        found = [
            table
            for protocol, section in suite.protocols.items()
            for table in published_tables(suite.published, protocol, section.model_dump(mode="json"))
        ]
        assert found or name == "imagenet_knn", "a suite that names published figures has some"


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_but_depth_can_be_rehearsed_without_files(name: str) -> None:
    suite = load_suite(name, tiny=True)
    assert suite.test.format == "scenes"
    assert set(suite.protocols) == set(load_suite(name).protocols) - {"depth"}


@pytest.mark.parametrize("name", ["voc", "coco", "discovery"])
def test_a_suite_can_be_printed_and_read_back(name: str, tmp_path: Path) -> None:
    suite = load_suite(name)
    printed = tmp_path / "printed.yaml"
    printed.write_text(yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False))
    assert load_suite(str(printed)) == suite


def test_what_both_parts_share_is_said_once() -> None:
    suite = load_suite("voc", ["dataset.root=/data/VOC", "test.min_side=8"])
    assert suite.train is not None
    assert suite.train.root == suite.test.root
    assert (suite.train.split, suite.test.split) == ("trainval", "test")
    assert (suite.train.min_side, suite.test.min_side) == (32, 8)


def test_a_protocol_that_a_suite_does_not_have() -> None:
    suite = load_suite("voc")
    assert list(suite.chosen(["knn"])) == ["knn"]
    with pytest.raises(ConfigError, match=r"no protocol detection\. It has: linear_svm.*--set detection=\{\}"):
        suite.chosen(["detection"])


def test_a_protocol_needs_its_data() -> None:
    with pytest.raises(ConfigError, match="knn learns from labelled photos: give `train`"):
        load_suite("discovery", ["knn={}"])
    with pytest.raises(ConfigError, match="pair_purity pairs boxes: give `regions`"):
        load_suite("voc", ["pair_purity={}"])


def test_a_wrong_word_is_corrected() -> None:
    with pytest.raises(ConfigError, match=r"knn\.neighbor: there is no such field\. Did you mean neighbors"):
        load_suite("voc", ["knn.neighbor=5"])
    with pytest.raises(ConfigError, match=r"suite 'vok' is unknown\. Did you mean voc"):
        load_suite("vok")
