"""The plan: what a configuration needs, and which versions follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.config import Config, Dataset
from stages.plan import TARGETS, VERSIONS, Plan, PlanError, make_plan

FOLDER = {"dataset": {"format": "folder", "root": "photos"}}
LABELLED = {"train": {"format": "scenes", "split": "train"}, "test": {"format": "scenes", "split": "test"}}


def plan(contents: str = "abc", **sections: dict) -> Plan:
    return make_plan(Config.model_validate(FOLDER | sections), lambda dataset: contents, Path("hashes.parquet"))


def versions(made: Plan) -> dict[str, str]:
    return {name: key.version for name, key in made.keys.items()}


def changed(first: Plan, second: Plan) -> set[str]:
    before, after = versions(first), versions(second)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


AFTER_STAGE_1 = {"image_pretraining", "retrieval", "roi_features", "correspondence", "object_pretraining", "evaluation"}


@pytest.mark.parametrize(
    ("section", "field", "value", "expected"),
    [
        ("retrieval", "neighbors", 3, {"retrieval", "correspondence", "object_pretraining", "evaluation"}),
        ("image_pretraining", "tau", 0.9, AFTER_STAGE_1),
        ("regions", "min_side", 50, {"regions", "roi_features", "correspondence", "object_pretraining", "evaluation"}),
        ("correspondence", "fraction", 0.2, {"correspondence", "object_pretraining", "evaluation"}),
        ("object_pretraining", "weight_intra", 0.0, {"object_pretraining", "evaluation"}),
        ("evaluation", "crop", 96, {"evaluation"}),
        ("run", "seed", 1, AFTER_STAGE_1 | {"regions"}),
    ],
)
def test_one_field_changes_the_steps_that_depend_on_it(section: str, field: str, value: object, expected: set) -> None:
    assert changed(plan(), plan(**{section: {field: value}})) == expected


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("run", "device", "cpu"),
        ("run", "workers", 7),
        ("image_pretraining", "checkpoint_minutes", 1.0),
        ("retrieval", "batch_size", 3),
        ("dataset", "root", "elsewhere"),
        ("dataset", "max_rejected", 0.5),
    ],
)
def test_where_and_how_fast_it_runs_changes_nothing(section: str, field: str, value: object) -> None:
    sections = FOLDER | {section: FOLDER.get(section, {}) | {field: value}}
    assert changed(plan(), plan(**sections)) == set()


def test_other_photos_change_everything() -> None:
    assert changed(plan("abc"), plan("abd")) == set(versions(plan()))


def test_the_encoder_is_an_input_only_where_it_is_used() -> None:
    assert "image_pretraining" not in plan().nodes["object_pretraining"].inputs
    warm = plan(object_pretraining={"init": "image_pretraining"})
    assert "image_pretraining" in warm.nodes["object_pretraining"].inputs


def test_until_takes_what_is_needed_and_no_more() -> None:
    made = plan(evaluation=LABELLED)
    assert [node.name for node in made.until("retrieval")] == ["catalog", "image_pretraining", "retrieval"]
    assert [node.name for node in made.until("regions")] == ["catalog", "regions"]
    assert {node.name for node in made.until("object_pretraining")}.isdisjoint({"scenes", "demo_photos"})
    assert made.until(None) == list(made.nodes.values())


def test_until_something_unknown_is_an_error() -> None:
    with pytest.raises(PlanError, match="'retrival' is neither a stage nor a step"):
        plan().until("retrival")


def test_labelled_data_that_are_not_there_stop_only_an_evaluation() -> None:
    voc = {"format": "voc", "root": "nowhere", "split": "train"}
    config = Config.model_validate(FOLDER | {"evaluation": {"train": voc, "test": voc}})

    def fingerprint(dataset: Dataset) -> str:
        if dataset.format == "voc":
            raise FileNotFoundError("there is no such folder.")
        return "abc"

    for until in ("object_pretraining", "correspondence", "catalog"):
        made = make_plan(config, fingerprint, Path("hashes.parquet"), until)
        assert "evaluation" not in made.nodes
        assert versions(made).items() <= versions(plan()).items(), "versions do not depend on how far a run goes"
    with pytest.raises(ValueError, match=r"evaluation.train: there is no such folder. `--until object_pretraining`"):
        make_plan(config, fingerprint, Path("hashes.parquet"))


def test_labelled_data_do_not_touch_pretraining() -> None:
    without, with_labels = versions(plan()), versions(plan(evaluation=LABELLED))
    assert {name for name in without if without[name] != with_labels[name]} == {"evaluation"}


def test_nodes_come_after_their_inputs_and_every_step_has_a_version_and_a_place() -> None:
    seen: set[str] = set()
    for node in plan(evaluation=LABELLED).nodes.values():
        assert set(node.inputs) <= seen
        seen.add(node.name)
    assert VERSIONS.keys() == TARGETS.keys()
